//go:build interop

package interop

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// smallDisk is a file system of 96 MiB, of its own, that the test can fill up.
func smallDisk(t *testing.T, kind string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "tmpfs":
		tool(t, "", "mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", dir)
	default:
		image := filepath.Join(filepath.Dir(dir), "image")
		if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 96<<20)); err != nil {
			t.Fatal(err)
		}
		tool(t, "", "mkfs.ext4", "-q", "-F", "-m", "0", image) // no blocks that only root may take
		tool(t, "", "mount", "-o", "loop", image, dir)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { // lazily: a broker may just have been killed
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

// fill writes a file until nothing fits any more; what it returns removes it.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "somebody-elses")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// untilQuiet waits until nothing was acknowledged for a second; moves waits for the opposite.
func (s *story) untilQuiet() {
	s.t.Helper()
	_, last := s.fleet.counts()
	since := time.Now()
	s.poll("the broker refuses", func() bool {
		if _, acked := s.fleet.counts(); acked != last {
			last, since = acked, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

func (s *story) moves() {
	s.t.Helper()
	_, before := s.fleet.counts()
	s.poll("the broker takes records again", func() bool {
		_, acked := s.fleet.counts()
		return acked > before+500
	})
}

func (s *story) poll(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(45 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("not within 45 s: %s", what)
		}
	}
}

// A disk that somebody else fills up under load, again and again: the broker refuses, goes on to be read, is killed and starts on the
// full disk, and takes records by itself as soon as there is room. Nothing that was acknowledged is missing at the end.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := smallDisk(t, kind)
			s := newStory(t, filepath.Join(dir, "data"), 10*time.Minute, fast)
			s.args = []string{"--config", writeConfig(t, "storage: {profile: small}\n")}
			p := s.begin()
			for i := range fromEnv(t, "RIVULET_FULL_DISKS", 3) {
				if s.pass(p, 100*time.Millisecond, time.Second) {
					t.Fatalf("the broker ended by itself:\n%s", p.Log())
				}
				free := fill(t, dir)
				s.untilQuiet()
				s.readWhileFull(p)
				if i%2 == 1 { // it starts on a full disk, too
					p.Kill()
					s.fleet.crashed()
					p = s.start()
					s.await(p)
					s.readWhileFull(p)
				}
				free()
				s.moves()
			}
			s.end(p)
		})
	}
}

// readWhileFull reads all that there is, which holds all that was acknowledged.
func (s *story) readWhileFull(p *process.Process) {
	s.t.Helper()
	_, acked := s.fleet.counts()
	entries, err := readBack(s.ctx, s.kafka, deviceTopic, producerTopic)
	if err != nil {
		s.t.Fatalf("%v\nlog of the broker:\n%s", err, p.Log())
	}
	if len(entries) < acked {
		s.t.Fatalf("%d records can be read on the full disk, %d were acknowledged", len(entries), acked)
	}
}
