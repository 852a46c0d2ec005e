package bridge

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

func TestScanner(t *testing.T) {
	var b []byte
	b = append(b, 0x20, 2, 1, 0)                               // CONNACK, session present
	b = append(b, 0x30, 0xC8, 0x01)                            // PUBLISH of 200 bytes
	b = append(b, bytes.Repeat([]byte{0x62, 2, 0, 9}, 50)...)  // that looks like PUBRELs
	b = append(b, 0x62, 2, 0x12, 0x34, 0xD0, 0, 0x62, 2, 0, 7) // PUBREL, PINGRESP, PUBREL
	b = append(b, 0x20, 2, 0, 0, 0x20, 2, 1, 5)                // CONNACK without session, and a refusal
	want := []seen{{kind: packetConnack, resumed: true}, {kind: packetPubrel, id: 0x1234}, {kind: packetPubrel, id: 7}, {kind: packetConnack}, {kind: packetConnack}}
	for n := 1; n <= len(b); n++ {
		var s scanner
		var got []seen
		for part := range slices.Chunk(b, n) {
			got = append(got, s.bytes(part)...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d: %v", n, got)
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte{0x62, 2, 0, 7, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 3)
	f.Add([]byte{0x20, 2, 1, 0, 0xD0, 0}, 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		var whole, cut scanner
		all := whole.bytes(b)
		var got []seen
		for part := range slices.Chunk(b, n) {
			got = append(got, cut.bytes(part)...)
		}
		if !slices.Equal(all, got) {
			t.Fatalf("%v, in pieces of %d %v", all, n, got)
		}
	})
}

func TestBucket(t *testing.T) {
	now := time.Unix(0, 0)
	b := bucket{rate: 100, at: now}
	if d := b.take(now, 50); d != 500*time.Millisecond {
		t.Error(d)
	}
	now = now.Add(10 * time.Second)
	if d := b.take(now, 100); d > time.Millisecond*500 {
		t.Error(d)
	}
	if d := (&bucket{}).take(now, 1<<30); d != 0 {
		t.Error(d)
	}
}
