package mqtt

import (
	"fmt"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

// TestMissed: a session that retention has overtaken is told how much it missed, and gets the rest.
func TestMissed(t *testing.T) {
	clock := newClock()
	r := newRig(t, rigOptions{server: func(o *Options) { o.Now = clock.now }})
	pub := r.connect(packet.V5, "pub", nil)
	away := func(id string) {
		p := r.resume(packet.V5, id, false, nil)
		p.subscribe("t", 1, nil)
		p.disconnect()
	}
	for i := range 10 {
		pub.stored("t", fmt.Sprint("before", i), nil)
	}
	away("a")
	for i := range 20 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	clock.add(2 * milestonePeriod)
	away("b")
	for i := 20; i < 40; i++ {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	topic, _ := r.store.Topic(edge.DefaultTopic)
	missed := func(id string, v packet.Version) (told string, first string) {
		t.Helper()
		p, a := r.connack(v, id, kept)
		for key, value := range a.Properties.User {
			if string(key) == missedProperty {
				told = string(value)
			}
		}
		first = string(p.wantPublish().Payload)
		p.write((&packet.Disconnect{}).Append(nil, packet.DISCONNECT, v))
		p.wantEnd(packet.Success)
		return told, first
	}
	if told, first := missed("a", packet.V5); told != "" || first != "0" {
		t.Errorf("nothing is missed: told %q, first %s", told, first)
	}
	var starts []storage.Start
	for _, p := range topic.Partitions {
		if _, _, high := p.Offsets(); high > 0 {
			starts = append(starts, storage.Start{Partition: p, Offset: 35})
		}
	}
	if err := r.store.Trim(t.Context(), starts); err != nil {
		t.Fatal(err)
	}
	if told, first := missed("b", packet.V5); told != "5" || first != "25" {
		t.Errorf("b: told %q, first %s, want 5, 25", told, first)
	}
	if s := r.srv.Stats(); s.Overtaken != 1 || s.Missed != 5 {
		t.Errorf("%d sessions, %d records", s.Overtaken, s.Missed)
	}
	if err := r.srv.sweepMilestones(); err != nil {
		t.Error(err)
	}
	clock.add(time.Hour)
}

func FuzzMilestone(f *testing.F) {
	f.Add([]byte{milestoneVersion, 1, 2, 3, 4})
	f.Add([]byte{milestoneVersion, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if ends, err := decodeMilestone(b); err == nil && len(ends) > len(b)/2 {
			t.Fatalf("%d ends from %d bytes", len(ends), len(b))
		}
	})
}
