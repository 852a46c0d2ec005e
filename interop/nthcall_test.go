//go:build interop

package interop

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nthCalls are the system calls by which the broker changes its disk, with how many of them one thread makes in a second of load,
// about. What strace counts, it counts for each thread. Not write, which is how sockets are written to: a plain producer whose answer
// was lost sends again, in the same session.
var nthCalls = []struct {
	set  string
	most int
}{
	{"pwrite64", 400},
	{"fdatasync", 200},
	{"rename,renameat,renameat2", 4},
	{"ftruncate", 4},
	{"unlink,unlinkat", 4},
	{"fsync", 6},
	{"openat", 60},
	{"fallocate", 4},
}

// The N-th call fails, or is the process's last, for many N, one after the other on the same data, under load. At the end everything
// that was ever acknowledged must be in the log, in order, once. Errors come once or from then on; a disk that is full
// from then on is one that the next round finds freed.
func TestNthCall(t *testing.T) {
	rounds := int(fromEnv(t, "RIVULET_NTH_CALLS", 8))
	for _, how := range []string{"error=EIO", "error=ENOSPC", "signal=SIGKILL"} {
		_, name, _ := strings.Cut(how, "=")
		t.Run(name, func(t *testing.T) {
			s := newStory(t, filepath.Join(t.ArtifactDir(), "data"), time.Minute+time.Duration(rounds)*5*time.Second, fast)
			s.args = []string{"--config", writeConfig(t, "storage: {tail_bytes: 2MiB, profile: small}\n")}
			s.unread = name == "EIO"
			p := s.begin()
			s.pass(p, 50*time.Millisecond, 200*time.Millisecond)
			p.Kill()
			s.fleet.crashed()
			ended := 0
			for i := range rounds {
				c := nthCalls[i%len(nthCalls)]
				// As many small ones as large ones: the start is worth a look, too.
				when := fmt.Sprint(int(math.Pow(float64(c.most), s.rnd.Float64()) + 0.5))
				if s.rnd.IntN(2) == 0 {
					when += "+"
				}
				p = s.start(c.set + ":" + how + ":when=" + when)
				if s.pass(p, 300*time.Millisecond, 900*time.Millisecond) {
					ended++
				}
				p.Kill()
				s.fleet.crashed()
			}
			t.Logf("%d rounds, the broker ended by itself in %d", rounds, ended)
			s.end(s.start())
		})
	}
}

// writeConfig writes a configuration file for serve.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rivulet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
