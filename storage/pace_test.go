package storage

import (
	"testing"
	"time"
)

// TestPace: a seal rests only while it is well ahead of what comes in, and nobody waits for it.
func TestPace(t *testing.T) {
	const mib = 1 << 20
	fresh := func() (*Store, *pace) {
		s := &Store{quit: make(chan struct{}), journal: &journal{maximum: 8}, sealBegan: time.Now().Add(-time.Minute)}
		s.o.TailBytes = 32 * mib
		s.tailBytes.Store(16 * mib)
		return s, s.newPace(16 * mib)
	}
	for name, c := range map[string]struct {
		change func(s *Store, p *pace)
		want   bool
	}{
		"nothing comes":       {func(*Store, *pace) {}, true},
		"little comes":        {func(s *Store, _ *pace) { s.tailBytes.Add(mib / 2) }, true},
		"it comes faster":     {func(s *Store, _ *pace) { s.tailBytes.Add(2 * mib) }, false},
		"a commit waits":      {func(s *Store, _ *pace) { s.pressed.Store(true) }, false},
		"the journal fills":   {func(s *Store, _ *pace) { s.journal.full = make([]*walFile, 3) }, false},
		"the store is closed": {func(s *Store, _ *pace) { close(s.quit) }, false},
	} {
		s, p := fresh()
		p.done = 8 * mib
		c.change(s, p)
		if got := p.ahead(); got != c.want {
			t.Errorf("%s: it rests: %v", name, got)
		}
	}
	s, _ := fresh()
	s.sealBegan = time.Now()
	if s.newPace(16*mib) != nil {
		t.Error("a seal that has to be done in no time rests")
	}
	var none *pace
	none.worked(mib)
}
