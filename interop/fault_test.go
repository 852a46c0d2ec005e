//go:build interop

package interop

import (
	"path/filepath"
	"testing"
	"time"
)

// System calls that fail or never return, under load. What was acknowledged before, between and after must be there.
func TestFailingSystemCalls(t *testing.T) {
	for name, inject := range map[string][]string{
		"one sync fails":            {"fdatasync:error=EIO:when=20"},
		"every sync fails":          {"fdatasync:error=EIO:when=15+"},
		"killed in a sync":          {"fdatasync:signal=SIGKILL:when=30"},
		"killed in an early sync":   {"fdatasync:signal=SIGKILL:when=2"},
		"killed in a write":         {"pwrite64:signal=SIGKILL:when=70"},
		"the disk is full":          {"pwrite64:error=ENOSPC:when=60+"},
		"killed in a rename":        {"renameat,rename,renameat2:signal=SIGKILL:when=1"},
		"slow disk, then killed":    {"fdatasync:delay_enter=20000:signal=SIGKILL:when=25"},
		"the disk fails and is cut": {"fdatasync:error=EIO:when=10+", "ftruncate:error=EIO:when=1+"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, filepath.Join(t.ArtifactDir(), "data"), 2*time.Minute, fast)
			p := s.begin()
			s.pass(p, 50*time.Millisecond, 200*time.Millisecond)
			p.Kill()
			s.fleet.crashed()
			for range 3 {
				p = s.start(inject...)
				ended := s.pass(p, time.Second, 1500*time.Millisecond)
				t.Logf("%s: ended by itself: %v", name, ended)
				p.Kill()
				s.fleet.crashed()
			}
			s.end(s.start())
		})
	}
}
