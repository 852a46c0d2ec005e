package interop

import (
	"path/filepath"
	"testing"
	"time"
)

// The built program is killed at random moments, while it starts included, under 20 devices and 4 producers, and started again on
// the same data. Then everything that it ever acknowledged must be in its log, in order, once.
func TestKill9(t *testing.T) {
	kills := int(fromEnv(t, "RIVULET_KILLS", 10))
	s := newStory(t, filepath.Join(t.ArtifactDir(), "data"), time.Minute+time.Duration(kills)*5*time.Second, fast)
	p := s.begin()
	unready := 0
	for i := range kills {
		if s.pass(p, 20*time.Millisecond, 900*time.Millisecond) {
			t.Fatalf("the broker ended by itself:\n%s", p.Log())
		}
		select {
		case <-p.Ready:
		default:
			unready++
		}
		p.Kill()
		s.fleet.crashed()
		if i%10 == 9 {
			sent, acked := s.fleet.counts()
			t.Logf("after %d kills, %d of them before ready: %d readings sent, %d acknowledged", i+1, unready, sent, acked)
		}
		p = s.start()
	}
	s.end(p)
}
