package mqtt

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage/batch"
)

// FuzzMessage: whatever a producer puts into a record, what goes to subscribers is a good PUBLISH.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("v"), edge.HeaderExpiry, []byte("60"), "user.mqtt.x", []byte("y"), true)
	f.Add([]byte(""), edge.HeaderResponseTopic, []byte("a/#"), edge.HeaderPayloadFormat, []byte("7"), false)
	f.Add([]byte{0}, edge.HeaderContentType, []byte{0xff}, "", []byte(nil), true)
	f.Fuzz(func(t *testing.T, value []byte, k1 string, v1 []byte, k2 string, v2 []byte, ids bool) {
		payload := batch.AppendPayload(nil, nil, value, []batch.KV{{Key: k1, Value: v1}, {Key: k2, Value: v2}})
		var m message
		var numbers []int
		if ids {
			numbers = []int{1, 268435455}
		}
		for _, v := range []packet.Version{packet.V311, packet.V5} {
			for qos := range byte(3) {
				m.read([]byte("t"), batch.Record{Payload: payload})
				check := func(b []byte, at int) {
					if at > 0 && qos > 0 {
						b[at+1] = 1
					}
					_, body, err := packet.Split(b)
					var p packet.Publish
					if err == nil {
						err = p.Decode(v, b[0], body)
					}
					if err != nil || string(p.Payload) != string(value) || string(p.Topic) != "t" {
						t.Fatalf("%s QoS %d: %v\n%s", v, qos, err, hex.Dump(b))
					}
				}
				fm := m.form(v, qos)
				check(slices.Clone(fm.bytes), fm.id)
				check(m.append(nil, v, qos, m.expiry, numbers, 9, false))
				if got := len(fm.bytes); got > m.size(v, 0) {
					t.Fatalf("%d bytes, size said %d", got, m.size(v, 0))
				}
			}
		}
	})
}

// FuzzPosition: damaged positions are refused, good ones mean the same once stored again.
func FuzzPosition(f *testing.F) {
	f.Add([]byte{positionVersion, 5, 1, 2, 3, 0, 1, 7, 1, 0, 1, 't'})
	f.Add([]byte{positionVersion, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &session{srv: &Server{}}
		if s.decode(in, nil) != nil {
			return
		}
		again := &session{srv: &Server{}}
		b := s.encodePosition(s.cursor)
		if err := again.decode(b, nil); err != nil {
			t.Fatalf("%x stored as %x: %v", in, b, err)
		}
		if again.cursor.seq != s.cursor.seq || again.window.used != s.window.used || len(again.cursor.done) != len(s.cursor.done) {
			t.Fatalf("%x stored as %x means something else", in, b)
		}
	})
}

// TestWindowIDs compares the window with a map.
func TestWindowIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := window{max: rapid.IntRange(1, 20).Draw(t, "max")}
		open := map[uint16]bool{}
		var order []uint16
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				if w.full() {
					continue
				}
				id := w.take(slot{topic: "t", qos: 1})
				if id == 0 || open[id] || int(id) > w.max {
					t.Fatalf("took id %d of a window of %d, in use: %v", id, w.max, open)
				}
				open[id] = true
				order = append(order, id)
				continue
			}
			id := uint16(rapid.IntRange(0, 25).Draw(t, "id"))
			w.acknowledged(id, 1)
			delete(open, id)
			order = slices.DeleteFunc(order, func(o uint16) bool { return o == id })
		}
		if got := w.inFlight(); w.used != len(open) || !slices.Equal(got, order) {
			t.Fatalf("in flight %v, want %v", got, order)
		}
	})
}

// FuzzOutbound: what the store holds of a QoS 2 message is refused or means the same once stored again.
func FuzzOutbound(f *testing.F) {
	f.Add([]byte{outboundVersion, 0, 5, 0, 1, 't'})
	f.Add([]byte{outboundVersion, 1, 5})
	f.Add([]byte{outboundVersion, 0, 5, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		sl, ok, err := decodeOutbound(in, nil)
		if err != nil || !ok {
			return
		}
		b := sl.encodeOutbound()
		if sl.released {
			b = encodeReleased(sl.order)
		}
		again, ok, err := decodeOutbound(b, nil)
		if err != nil || !ok || again != sl {
			t.Fatalf("%x stored as %x means %+v, want %+v, %v", in, b, again, sl, err)
		}
	})
}

// FuzzShare: damaged positions of shared subscriptions are refused, good ones mean the same once stored again.
func FuzzShare(f *testing.F) {
	f.Add([]byte{shareVersion, 5, 1, 2, 3, 0, 1, 8, 9})
	f.Add([]byte{shareVersion, 5, 0, 0, 0})
	parts := map[uint32]*edge.Partition{7: {ID: 7}}
	f.Fuzz(func(t *testing.T, in []byte) {
		var g, again share
		if g.decode(in, parts) != nil {
			return
		}
		b := g.note(g.cursor)[0].Value
		if err := again.decode(b, parts); err != nil || again.cursor.seq != g.cursor.seq || len(again.back) != len(g.back) {
			t.Fatalf("%x stored as %x: %v", in, b, err)
		}
		for i := range again.lent {
			if again.lent[i] != g.lent[i] {
				t.Fatalf("%x stored as %x lends something else", in, b)
			}
		}
	})
}

// FuzzWill: a stored will is refused or is one that may be published.
func FuzzWill(f *testing.F) {
	w := will{topic: "t", delay: 5, principal: edge.Principal{Client: "c", Name: "ann"}}
	w.publish = packet.Publish{Topic: []byte("t"), Payload: []byte("gone"), QoS: 2, Retain: true}
	f.Add(w.put(time.Unix(1000, 0)).Value)
	f.Add([]byte(`{"publish":"MA=="}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		w, due, err := loadWill("c", in)
		if err != nil {
			return
		}
		again, due2, err := loadWill("c", w.put(due).Value)
		if err != nil || !packet.ValidTopic([]byte(w.topic)) || again.topic != w.topic || !bytes.Equal(again.publish.Payload, w.publish.Payload) || !due2.Equal(due) {
			t.Fatalf("%s: %+v is stored as %+v, %v", in, w, again, err)
		}
	})
}
