package mirror

import "testing"

// What the centre does not have is held: everything at first, what is behind the position later, and behind the store's own note of
// it before a new run has asked the centre.
func TestHolds(t *testing.T) {
	h := openHere(t, t.TempDir())
	c := newCentre(t, tv2)
	p, other := h.topic(t, "telemetry", 1).Partitions[0], h.topic(t, "private", 1).Partitions[0]
	h.append(t, p, 300, 100)
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	holds := func(u *Uplink, from int64, held bool) {
		t.Helper()
		if got, ok := u.Holds(p); got != from || ok != held {
			t.Errorf("holds from %d: %v; want %d, %v", got, ok, from, held)
		}
		if got, ok := u.Holds(other); ok {
			t.Errorf("holds what it does not mirror from %d on", got)
		}
	}
	idle, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	holds(idle, 0, true)
	u := start(t, o)
	u.mirrored(t)
	holds(u.Uplink, 300, true)
	u.stop() // which writes the note
	h.append(t, p, 10, 100)
	holds(u.Uplink, 300, true)
	if idle, err = New(o); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the note is there", func() bool { from, _ := idle.Holds(p); return from > 0 })
	holds(idle, 300, true)
}
