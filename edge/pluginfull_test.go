//go:build linux

package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rivulet/examples/plugins/builtin"
)

// An upload that meets a full disk is refused with an error that says so. It leaves nothing behind, the plugin stays what it was,
// and the same upload succeeds when there is room.
func TestPushPluginOnAFullDisk(t *testing.T) {
	r := open(t, Options{Topics: []TopicSpec{{Name: "t", Partitions: 1}}})
	r.attach("p", builtin.Identity(), AttachSpec{Topic: "t"})
	wasm := builtin.DropCold(20)
	sum := sha256.Sum256(wasm)
	path := filepath.Join(r.dir, "plugins", hex.EncodeToString(sum[:])+".wasm")
	if err := os.Symlink("/dev/full", path+".tmp"); err != nil { // what is written there meets a full disk
		t.Fatal(err)
	}
	_, err := r.PushPlugin(t.Context(), "p", "2", "", wasm)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "make room on the disk and push it again") {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "plugins", "*.wasm*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v are left, %v", files, err)
	}
	for range 2 {
		if p := r.Plugins(); len(p) != 1 || len(p[0].Revisions) != 1 {
			t.Fatalf("%+v", p)
		}
		r.restart()
	}
	if rev, err := r.PushPlugin(t.Context(), "p", "2", "", wasm); err != nil || rev.Number != 2 {
		t.Fatal(rev, err)
	}
}
