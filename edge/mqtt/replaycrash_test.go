package mqtt

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

// crash makes the broker what a kill -9 at this moment would leave, a start later: what is durable is in a backup, and nothing else.
func (r *rig) crash(o rigOptions) {
	r.t.Helper()
	var b bytes.Buffer
	if _, err := r.store.Backup(r.t.Context(), &b, nil); err != nil {
		r.t.Fatal(err)
	}
	r.stop()
	r.dir = filepath.Join(r.t.TempDir(), "after")
	if _, err := storage.Restore(r.t.Context(), &b, r.dir, storage.RestoreOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.start(o)
}

// A replay with QoS 2 is exactly once, wherever a crash comes: before it begins, and with exchanges in every state.
func TestReplayQoS2ThroughCrashes(t *testing.T) {
	few := func(c *packet.Connect) {
		kept(c)
		c.Properties.ReceiveMaximum = 3
		c.Properties.Mark(packet.PropReceiveMaximum)
	}
	for crashAt := range 9 {
		t.Run(fmt.Sprint(crashAt), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			pub := r.connect(packet.V5, "pub", nil)
			const n = 8
			for i := range n {
				pub.stored2("t", fmt.Sprint(i))
				pub.stored2("other", fmt.Sprint("other ", i))
			}
			sub := r.connect(packet.V5, "sub", few)
			sub.subscribe("other", 2, nil)
			pub.stored2("other", "live")
			sub.complete(sub.wantQoS2("live", false))
			sub.subscribe("t", 2, asking("earliest"))
			got := map[uint16]string{} // what the client has of exchanges that are open
			var done []string          // what it has
			take := func() {
				t.Helper()
				switch first, body := sub.next(); packet.TypeOf(first) {
				case packet.PUBLISH:
					var m packet.Publish
					if err := m.Decode(packet.V5, first, body); err != nil {
						t.Fatal(err)
					}
					if _, have := got[m.ID]; !have {
						got[m.ID] = string(m.Payload)
						done = append(done, string(m.Payload))
					}
					sub.ack(packet.PUBREC, m.ID)
				case packet.PUBREL:
					var a packet.Ack
					if err := a.Decode(packet.V5, first, body); err != nil {
						t.Fatal(err)
					}
					delete(got, a.ID)
					sub.ack(packet.PUBCOMP, a.ID)
				default:
					t.Fatalf("packet 0x%02x", first)
				}
			}
			for range 2 * crashAt {
				take()
			}
			r.crash(rigOptions{})
			sub, _ = r.connack(packet.V5, "sub", func(c *packet.Connect) { few(c); c.CleanStart = false })
			for len(done) < n || len(got) > 0 {
				take()
			}
			if want := "[0 1 2 3 4 5 6 7]"; fmt.Sprint(done) != want {
				t.Errorf("got %v, want %s", done, want)
			}
			sub.wantNothingNew()
		})
	}
}

// next reads one packet.
func (p *peer) next() (first byte, body []byte) {
	p.t.Helper()
	first, body, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	return first, body
}

// History is read as it became: a transaction that is open now hides neither that an earlier one was aborted, nor what another
// subscription waits for.
func TestReplayPastAnOpenTransaction(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.producers("k")
	w.add(1, "aborted")
	w.do(&edge.Commit{Appends: []edge.Append{{Partition: w.p, Marker: &storage.Marker{ProducerID: 1}}}})
	w.add(0, "plain")
	sub := r.connect(packet.V5, "sub", kept)
	sub.subscribe("k/#", 1, nil)
	eventually(t, "the subscriber is live", func() bool { return len(r.srv.notLive()) == 0 })
	w.add(2, "open")
	w.add(0, "behind it")
	sub.wantNothing()
	sub.subscribe("+/key", 1, asking("earliest"))
	sub.wantMessage("k/key", "plain", 1)
	sub.wantNothing()
	w.do(&edge.Commit{Appends: []edge.Append{w.end(2)}})
	sub.wantMessage("k/key", "open", 1)
	sub.wantMessage("k/key", "behind it", 1)
	sub.wantNothing()
}
