//go:build interop

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN; with noLogFlush the file system stops at once, and what was neither synced nor written back is gone,
// the file system's own journal included.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// disk is a file system of its own in a file, which can lose its power.
type disk struct {
	t          *testing.T
	image, dir string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mount")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 2<<30); err != nil {
		t.Fatal(err)
	}
	tool(t, "", "mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	t.Cleanup(func() { exec.Command("umount", d.dir).Run() }) // it is not mounted when the test failed in between
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	tool(d.t, "", "mount", "-o", "loop", d.image, d.dir)
}

func (d *disk) unmount() {
	d.t.Helper()
	tool(d.t, "", "umount", d.dir)
}

// cut takes the power away.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, noLogFlush); err != nil {
		d.t.Fatalf("shut the file system down: %v", err)
	}
}

// A power cut under load of 20 MQTT devices and 4 Kafka producers: the file system stops, the broker is killed, and after a mount that replays ext4's journal everything that was
// acknowledged must be there, and a real Kafka holds the same.
func TestPowerCut(t *testing.T) {
	d := newDisk(t)
	s := newStory(t, filepath.Join(d.dir, "data"), time.Hour, slow)
	mirrorTo(s, startCentre(t, "4"))
	p := s.begin()
	for range fromEnv(t, "RIVULET_POWER_CUTS", 10) {
		if s.pass(p, 300*time.Millisecond, 2*time.Second) {
			t.Fatalf("the broker ended by itself:\n%s", p.Log())
		}
		d.cut()
		p.Kill()
		s.fleet.crashed()
		d.unmount()
		d.mount()
		p = s.start()
	}
	s.end(p)
	d.unmount()
}

// The disk itself must be able to lose what was not synced, or the test above proves nothing.
func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	d := newDisk(t)
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("kept?"); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", true)
	write("unsynced", false)
	d.cut()
	d.unmount()
	d.mount()
	if b, err := os.ReadFile(filepath.Join(d.dir, "synced")); string(b) != "kept?" {
		t.Errorf("synced file: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(d.dir, "unsynced")); string(b) == "kept?" {
		t.Errorf("unsynced file: %q, %v: no power was cut", b, err)
	}
	d.unmount()
}
