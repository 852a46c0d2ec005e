package mqtt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

// fill makes it impossible to seal, as a full disk does, and publishes until the store takes no more. It returns what makes
// room again.
func (r *rig) fill() (free func()) {
	r.t.Helper()
	block := filepath.Join(r.dir, "log")
	away := filepath.Join(r.t.TempDir(), "log")
	if err := errors.Join(os.Rename(block, away), os.WriteFile(block, nil, 0o600)); err != nil {
		r.t.Fatal(err)
	}
	p := r.connect(packet.V5, "filler", nil)
	payload := strings.Repeat("x", 50<<10)
	for {
		id := p.publish("filler", payload, 1, nil)
		first, body := p.want(packet.PUBACK)
		var a packet.Ack
		if err := a.Decode(packet.V5, first, body); err != nil || a.ID != id {
			r.t.Fatal(err, a.ID)
		}
		if a.Reason == packet.QuotaExceeded {
			break
		}
	}
	p.disconnect()
	return func() {
		if err := errors.Join(os.Remove(block), os.Rename(away, block)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func smallStore(o *storage.Options) { o.TailBytes, o.JournalBytes = 1<<20, 1<<20 }

func TestFullStoreMQTT5(t *testing.T) {
	r := newRig(t, rigOptions{store: smallStore})
	p := r.connect(packet.V5, "c", kept)
	p.wantAck(packet.PUBREC, p.publish("t", "before", 2, nil), packet.Success)
	held := p.id
	free := r.fill()
	big := strings.Repeat("x", 60<<10)
	p.wantAck(packet.PUBACK, p.publish("t", big, 1, nil), packet.QuotaExceeded)
	p.wantAck(packet.PUBREC, p.publish("t", big, 2, nil), packet.QuotaExceeded)
	refused := p.id
	// What only releases is taken all the same, also when it comes together with what is not.
	m := packet.Publish{Topic: []byte("t"), Payload: []byte(big), QoS: 1, ID: 77}
	p.write(packet.AppendAck(m.Append(nil, packet.V5), packet.PUBREL, packet.V5, held, packet.Success))
	p.wantAck(packet.PUBACK, 77, packet.QuotaExceeded)
	p.wantAck(packet.PUBCOMP, held, packet.Success)
	p.subscribe("other", 1, nil)
	free()
	eventually(t, "there is space again", func() bool {
		id := p.publish("t", big, 1, nil)
		first, body := p.want(packet.PUBACK)
		var a packet.Ack
		return a.Decode(packet.V5, first, body) == nil && a.ID == id && a.Reason == packet.Success
	})
	p.publish("t", "the id is free", 2, func(m *packet.Publish) { m.ID = refused })
	p.wantAck(packet.PUBREC, refused, packet.Success)
	if got := r.srv.Stats().RefusedFull; got < 3 {
		t.Errorf("%d refusals counted", got)
	}
	last := ""
	for _, rec := range r.logged(edge.DefaultTopic) {
		if string(rec.Payload.Key()) == "t" {
			last = string(rec.Payload.Value())
		}
	}
	if last != "the id is free" {
		t.Errorf("the last record is %.40q", last)
	}
}

func TestFullStoreMQTT311(t *testing.T) {
	r := newRig(t, rigOptions{store: smallStore})
	free := r.fill()
	big := strings.Repeat("x", 60<<10)
	impatient := r.connect(packet.V311, "impatient", func(c *packet.Connect) { c.KeepAlive = 1 })
	patient := r.connect(packet.V311, "patient", nil)
	start := time.Now()
	impatient.publish("t", big, 1, nil)
	id := patient.publish("t", big, 1, nil)
	patient.publish("t", "and then", 1, nil)
	impatient.wantEnd(packet.QuotaExceeded) // after one keep-alive, without an acknowledgement
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
	free()
	patient.wantAck(packet.PUBACK, id, packet.Success)
	patient.wantAck(packet.PUBACK, id+1, packet.Success)
	got := 0
	for _, rec := range r.logged(edge.DefaultTopic) {
		if string(rec.Payload.Key()) == "t" {
			got++
		}
	}
	if got != 2 {
		t.Errorf("%d records, want the patient client's 2", got)
	}
}

// TestReasons holds the table of reason codes.
func TestReasons(t *testing.T) {
	for err, want := range map[error]packet.Reason{
		nil:                   packet.Success,
		edge.ErrNotAuthorized: packet.NotAuthorized,
		edge.ErrInvalidTopic:  packet.InvalidTopic,
		edge.ErrInternal:      packet.InvalidTopic,
		edge.ErrRejected:      packet.ImplementationSpecific,
		edge.ErrHalted:        packet.ImplementationSpecific,
		edge.ErrFull:          packet.QuotaExceeded,
		edge.ErrReadOnly:      packet.QuotaExceeded,
		edge.ErrClosed:        packet.Unspecified,
	} {
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		if got := reasonOf(err); got != want {
			t.Errorf("%v: 0x%02x, want 0x%02x", err, byte(got), byte(want))
		}
	}
}
