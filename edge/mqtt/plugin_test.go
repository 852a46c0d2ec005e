package mqtt

import (
	"path/filepath"
	"strings"
	"testing"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/plugins"
	"rivulet/plugins/asm"
	"rivulet/storage"
)

// trapOn is a plugin that passes records on, but traps when the value (behind a key of one byte) begins as word does.
func trapOn(word string) []byte {
	m := asm.NewRedpanda()
	return m.Finish(0,
		asm.I32Const(asm.RecordBuffer+3), asm.I32Load8U(0), asm.I32Const(int32(word[0])), asm.I32Eq, asm.If, asm.Unreachable, asm.End,
		m.Emit(asm.I32Const(asm.RecordBuffer), asm.LocalGet(asm.RecordSize)))
}

func newPluginRig(t *testing.T, onError plugins.OnError) *rig {
	dir := t.TempDir()
	r := newRig(t, rigOptions{
		store: func(o *storage.Options) { dir = o.Dir },
		broker: func(o *edge.Options) {
			o.PluginDir = filepath.Join(dir, "plugins")
			o.Routes = []edge.Route{{MQTT: "p", Topic: "guarded"}}
		},
	})
	if _, err := r.broker.PushPlugin(t.Context(), "trap", "", "", trapOn("!")); err != nil {
		t.Fatal(err)
	}
	if err := r.broker.AttachPlugin(t.Context(), edge.AttachSpec{Plugin: "trap", Topic: "guarded", OnError: onError}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRejectedByPlugin: on_error reject. MQTT 5 clients are told and may use the packet id again; before, there is no way to
// tell.
func TestRejectedByPlugin(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newPluginRig(t, plugins.Reject)
		p := r.connect(v, "c", kept)
		want := packet.Success
		if v >= packet.V5 {
			want = packet.ImplementationSpecific
		}
		p.wantAck(packet.PUBACK, p.publish("p", "!", 1, nil), want)
		p.wantAck(packet.PUBACK, p.publish("p", "good", 1, nil), packet.Success)
		id := p.publish("p", "!", 2, nil)
		p.wantAck(packet.PUBREC, id, want)
		if got, err := r.store.Get(qos2Space, qos2Key("c", id)); err != nil || got != nil {
			t.Errorf("the id of a refused message is remembered: %v, %v", got, err)
		}
		if v < packet.V5 {
			p.write(packet.AppendAck(nil, packet.PUBREL, v, id, packet.Success))
			p.wantAck(packet.PUBCOMP, id, packet.Success)
		}
		p.publish("p", "again", 2, func(m *packet.Publish) { m.ID = id })
		p.wantAck(packet.PUBREC, id, packet.Success)
		var got []string
		for _, rec := range r.logged("guarded") {
			got = append(got, string(rec.Payload.Value()))
		}
		if strings.Join(got, " ") != "good again" {
			t.Errorf("stored %q", got)
		}
	})
}

// TestHaltedTopic: on_error halt stops one topic, and what comes in the same read goes where it should.
func TestHaltedTopic(t *testing.T) {
	r := newPluginRig(t, plugins.Halt)
	p := r.connect(packet.V5, "c", kept)
	p.wantAck(packet.PUBACK, p.publish("p", "!", 1, nil), packet.ImplementationSpecific)
	p.wantAck(packet.PUBREC, p.publish("other", "held", 2, nil), packet.Success)
	held := p.id
	var b []byte
	for i, m := range []packet.Publish{
		{Topic: []byte("other"), Payload: []byte("one"), QoS: 1, ID: 11},
		{Topic: []byte("p"), Payload: []byte("halted"), QoS: 1, ID: 12},
		{Topic: []byte("other"), Payload: []byte("zero")},
		{Topic: []byte("p"), Payload: []byte("halted"), QoS: 2, ID: 13},
		{Topic: []byte("other"), Payload: []byte("two"), QoS: 2, ID: 14},
	} {
		b = m.Append(b, packet.V5)
		if i == 2 {
			b = packet.AppendAck(b, packet.PUBREL, packet.V5, held, packet.Success)
		}
	}
	p.write(b)
	p.wantAck(packet.PUBACK, 11, packet.Success)
	p.wantAck(packet.PUBACK, 12, packet.ImplementationSpecific)
	p.wantAck(packet.PUBCOMP, held, packet.Success)
	p.wantAck(packet.PUBREC, 13, packet.ImplementationSpecific)
	p.wantAck(packet.PUBREC, 14, packet.Success)
	var ids []string
	_ = r.store.Scan(qos2Space, "c\x00", func(key string, _ []byte) bool { ids = append(ids, key[2:]); return true })
	if strings.Join(ids, ",") != "\x00\x0e" {
		t.Errorf("remembered ids %q, want 14", ids)
	}
	var got []string
	for _, rec := range r.logged(edge.DefaultTopic) {
		got = append(got, string(rec.Payload.Value()))
	}
	if strings.Join(got, " ") != "held one zero two" {
		t.Errorf("stored %q", got)
	}
	p.publish("other", "13 is free", 2, func(m *packet.Publish) { m.ID = 13 })
	p.wantAck(packet.PUBREC, 13, packet.Success)
}
