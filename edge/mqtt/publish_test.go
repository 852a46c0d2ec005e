package mqtt

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage/batch"
)

// logged reads all records of a topic, partition by partition.
func (r *rig) logged(topic string) (records []batch.Record) {
	r.t.Helper()
	t, ok := r.store.Topic(topic)
	if !ok {
		return nil
	}
	for _, p := range t.Partitions {
		start, _, high := p.Offsets()
		for at := start; at < high; {
			batches, err := p.Read(at, high, 1<<20)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, b := range batches {
				var d batch.Decoder
				if err := d.Reset(b, 0); err != nil {
					r.t.Fatal(err)
				}
				for rec, ok := d.Next(); ok; rec, ok = d.Next() {
					rec.Payload = bytes.Clone(rec.Payload)
					records = append(records, rec)
				}
				at = d.Header().NextOffset()
			}
		}
	}
	return records
}

func headers(r batch.Record) map[string]string {
	m := map[string]string{}
	for k, v := range r.Payload.EachHeader {
		m[string(k)] = string(v)
	}
	return m
}

func TestRecordOfAPublish(t *testing.T) {
	r := newRig(t, rigOptions{broker: func(o *edge.Options) {
		o.Routes = []edge.Route{{MQTT: "factory/+/t", Topic: "telemetry", Key: "{1}"}}
	}})
	p := r.connect(packet.V5, "dev 1", nil)
	p.stored("factory/7/t", "plain", nil)
	p.stored("other", "rich", func(m *packet.Publish) {
		m.Retain = true
		q := &m.Properties
		q.ContentType, q.ResponseTopic, q.CorrelationData = []byte("text/plain"), []byte("re/ply"), []byte{0, 1}
		q.MessageExpiry, q.PayloadFormat = 60, 1
		q.Mark(packet.PropContentType, packet.PropResponseTopic, packet.PropCorrelationData, packet.PropMessageExpiry, packet.PropPayloadFormat)
		for _, kv := range [][2]string{{"a", "1"}, {"mqtt.topic", "forged"}, {"user.mqtt.x", "y"}, {"user.z", ""}} {
			q.UserRaw = packet.AppendUser(q.UserRaw, kv[0], kv[1])
		}
		q.Mark(packet.PropUser)
	})
	got := r.logged("telemetry")
	if len(got) != 1 || string(got[0].Payload.Key()) != "7" || string(got[0].Payload.Value()) != "plain" {
		t.Fatalf("telemetry holds %v", got)
	}
	want := map[string]string{"mqtt.topic": "factory/7/t", "mqtt.qos": "1", "mqtt.client": "dev 1"}
	if diff := cmp.Diff(want, headers(got[0])); diff != "" {
		t.Error(diff)
	}
	got = r.logged(edge.DefaultTopic)
	if len(got) != 1 || string(got[0].Payload.Key()) != "other" || got[0].Payload.Valid() != nil {
		t.Fatalf("%s holds %v", edge.DefaultTopic, got)
	}
	want = map[string]string{
		"mqtt.topic": "other", "mqtt.qos": "1", "mqtt.client": "dev 1", "mqtt.retain": "1", "mqtt.content-type": "text/plain",
		"mqtt.response-topic": "re/ply", "mqtt.correlation-data": "\x00\x01", "mqtt.expiry": "60", "mqtt.payload-format": "1",
		"a": "1", "user.mqtt.topic": "forged", "user.user.mqtt.x": "y", "user.z": "",
	}
	if diff := cmp.Diff(want, headers(got[0])); diff != "" {
		t.Error(diff)
	}
}

func TestMQTT_3_3_2_18_PropertiesForwarded(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V5, "pub", nil)
	old := r.connect(packet.V311, "old", nil)
	sub.subscribe("t", 1, nil)
	old.subscribe("t", 1, nil)
	users := [][2]string{{"b", "2"}, {"a", "1"}, {"b", "3"}, {"mqtt.qos", "9"}, {"user.mqtt.x", "y"}, {"", ""}}
	pub.stored("t", "x", func(m *packet.Publish) {
		q := &m.Properties
		q.ContentType, q.ResponseTopic, q.CorrelationData = []byte("text/plain"), []byte("re/ply"), []byte{0, 1}
		q.MessageExpiry, q.PayloadFormat = 600, 1
		q.Mark(packet.PropContentType, packet.PropResponseTopic, packet.PropCorrelationData, packet.PropMessageExpiry, packet.PropPayloadFormat, packet.PropUser)
		for _, kv := range users {
			q.UserRaw = packet.AppendUser(q.UserRaw, kv[0], kv[1])
		}
	})
	m := sub.wantMessage("t", "x", 1)
	q := m.Properties
	if string(q.ContentType) != "text/plain" || string(q.ResponseTopic) != "re/ply" || string(q.CorrelationData) != "\x00\x01" || q.PayloadFormat != 1 {
		t.Errorf("got %+v", q)
	}
	if !q.Has(packet.PropMessageExpiry) || q.MessageExpiry != 600 {
		t.Errorf("expiry %d", q.MessageExpiry)
	}
	var got [][2]string
	for k, v := range q.User {
		got = append(got, [2]string{string(k), string(v)})
	}
	if diff := cmp.Diff(users, got); diff != "" {
		t.Error(diff)
	}
	old.wantMessage("t", "x", 1)
	pub.stored("t", "y", nil)
	if m := sub.wantMessage("t", "y", 1); !m.Properties.Empty() {
		t.Errorf("properties came from nowhere: %+v", m.Properties)
	}
}

func TestTopicAlias(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V5, "c", func(c *packet.Connect) {
		c.Properties.TopicAliasMaximum = 1
		c.Properties.Mark(packet.PropTopicAliasMaximum)
	})
	p.subscribe("#", 1, nil)
	alias := func(m *packet.Publish) {
		m.Properties.TopicAlias = 3
		m.Properties.Mark(packet.PropTopicAlias)
	}
	pub := r.connect(packet.V5, "pub", nil)
	send := func(topic, payload string) packet.Publish {
		pub.stored(topic, payload, alias)
		m := p.wantPublish()
		p.write(packet.AppendAck(nil, packet.PUBACK, p.v, m.ID, packet.Success))
		return m
	}
	// Out: the first topic gets the only alias, others none.
	if m := send("a", "1"); string(m.Topic) != "a" || m.Properties.TopicAlias != 1 {
		t.Errorf("got %q alias %d", m.Topic, m.Properties.TopicAlias)
	}
	if m := send("", "2"); string(m.Topic) != "" || m.Properties.TopicAlias != 1 || string(m.Payload) != "2" {
		t.Errorf("got %q alias %d", m.Topic, m.Properties.TopicAlias)
	}
	if m := send("b", "3"); string(m.Topic) != "b" || m.Properties.Has(packet.PropTopicAlias) {
		t.Errorf("got %q alias %d", m.Topic, m.Properties.TopicAlias)
	}
	if m := send("", "4"); string(m.Topic) != "b" {
		t.Errorf("got %q", m.Topic)
	}
}

func TestMQTT_3_3_4_9_ReceiveMaximum(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.ReceiveMaximum = 2 }})
	p, a := r.connack(packet.V5, "c", nil)
	if a.Properties.ReceiveMaximum != 2 {
		t.Fatalf("receive maximum %d", a.Properties.ReceiveMaximum)
	}
	for range 10 { // acknowledged ones do not count
		p.stored("t", "x", nil)
	}
	// QoS 2 counts until PUBCOMP.
	one, two := p.publish("t", "x", 2, nil), p.publish("t", "x", 2, nil)
	p.wantAck(packet.PUBREC, one, packet.Success)
	p.wantAck(packet.PUBREC, two, packet.Success)
	p.write(packet.AppendAck(nil, packet.PUBREL, packet.V5, one, packet.Success))
	p.wantAck(packet.PUBCOMP, one, packet.Success)
	p.wantAck(packet.PUBREC, p.publish("t", "x", 2, nil), packet.Success)
	var flood []byte
	for i := range 5000 { // far more than fits into socket buffers must not keep the client from reading why
		m := packet.Publish{Topic: []byte("t"), Payload: bytes.Repeat([]byte("x"), 300), QoS: 1, ID: uint16(100 + i)}
		flood = m.Append(flood, packet.V5)
	}
	go func() { _, _ = p.nc.Write(flood) }()
	p.wantEnd(packet.ReceiveMaximumExceeded)
}

func TestMaximumPacketSize(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxPacket = 1 << 20 }})
	small := r.connect(packet.V5, "small", func(c *packet.Connect) {
		c.Properties.MaximumPacketSize = 100
		c.Properties.Mark(packet.PropMaximumPacketSize)
	})
	big, pub := r.connect(packet.V311, "big", nil), r.connect(packet.V311, "pub", nil)
	small.subscribe("t", 1, nil)
	big.subscribe("t", 1, nil)
	large := strings.Repeat("x", 1<<20-100)
	pub.stored("t", large, nil)
	pub.stored("t", "fits", nil)
	small.wantMessage("t", "fits", 1) // MQTT-3.1.2-25: the other is dropped as if it had been sent
	big.wantMessage("t", large, 1)
	big.wantMessage("t", "fits", 1)
	if got := r.srv.Stats().Oversize; got != 1 {
		t.Errorf("%d counted", got)
	}
	pub.publish("t", large+strings.Repeat("x", 200), 0, nil)
	pub.wantEnd(packet.PacketTooLarge)
}

// TestSplitPackets: packets arrive in pieces of any size.
func TestSplitPackets(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V311, "c", nil)
	var all []byte
	for i := range 20 {
		m := packet.Publish{Topic: []byte("t"), Payload: bytes.Repeat([]byte{byte('a' + i)}, 1+i*i*40), QoS: 1, ID: uint16(i + 1)}
		all = m.Append(all, packet.V311)
	}
	for size := 1; len(all) > 0; size = (size*3 + 1) % 5003 {
		n := min(size+1, len(all))
		p.write(all[:n])
		all = all[n:]
	}
	for i := range 20 {
		p.wantAck(packet.PUBACK, uint16(i+1), packet.Success)
	}
	sizes := map[int]bool{}
	for _, rec := range r.logged(edge.DefaultTopic) {
		sizes[len(rec.Payload.Value())] = true
	}
	if len(sizes) != 20 {
		t.Errorf("stored sizes %v", maps.Keys(sizes))
	}
}

func TestOrderPerTopic(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.connect(packet.V5, "sub", nil)
	sub.subscribe("#", 1, nil)
	const n, topics = 3000, 7
	pub := r.connect(packet.V311, "pub", nil)
	go func() {
		var b []byte
		for i := range n {
			m := packet.Publish{Topic: fmt.Appendf(nil, "t/%d", i%topics), Payload: fmt.Appendf(nil, "%d", i), QoS: 1, ID: uint16(i + 1)}
			b = m.Append(b, packet.V311)
		}
		_, _ = pub.nc.Write(b)
	}()
	for i := range n {
		pub.wantAck(packet.PUBACK, uint16(i+1), packet.Success)
	}
	next := map[string]int{}
	for range n {
		m := sub.wantPublish()
		sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
		var i int
		fmt.Sscan(string(m.Payload), &i)
		want, ok := next[string(m.Topic)]
		if ok && i != want {
			t.Fatalf("%s: got %d, want %d", m.Topic, i, want)
		}
		next[string(m.Topic)] = i + topics
	}
}
