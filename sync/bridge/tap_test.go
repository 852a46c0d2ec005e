package bridge

import (
	"bytes"
	"io"
	"net"
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
	want := []seen{{kind: packetConnack, resumed: true}, {kind: packetPubrel, id: 0x1234}, {kind: packetPubrel, id: 7}, {kind: packetConnack}, {kind: packetConnack, refused: true}}
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

// shortened is what the tap makes of a stream, and which messages of it were cut short.
func shortened(b []byte, most int) (out []byte, short []uint64) {
	n := uint64(0)
	for len(b) > 0 {
		length, head := 0, 1
		for shift := 0; shift < 28; shift += 7 {
			if head >= len(b) {
				return out, short
			}
			length |= int(b[head]&0x7F) << shift
			head++
			if b[head-1]&0x80 == 0 {
				break
			}
		}
		whole := b[:min(head+length, len(b))]
		b = b[len(whole):]
		if whole[0]>>4 == packetPublish {
			n++
			keep := 2
			if whole[0]&6 != 0 {
				keep = 4
			}
			if length > most {
				if len(whole) < head+2 {
					return out, short
				}
				if keep += int(whole[head])<<8 | int(whole[head+1]); keep <= length {
					out = append(out, whole[0])
					for rest := keep; ; rest >>= 7 {
						if rest < 128 {
							out = append(out, byte(rest))
							break
						}
						out = append(out, byte(rest)|0x80)
					}
					whole, short = whole[head:min(head+keep, len(whole))], append(short, n)
				}
			}
		}
		out = append(out, whole...)
	}
	return out, short
}

// pieces is a connection that brings its bytes in pieces.
type pieces struct {
	net.Conn
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

func FuzzTap(f *testing.F) {
	f.Add([]byte{0x32, 12, 0, 1, 'a', 0, 7, 'p', 'a', 'y', 'l', 'o', 'a', 'd', 0x62, 2, 0, 7}, 3)
	f.Add([]byte{0x30, 12, 0, 1, 'a', 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x30, 12, 0, 200, 'a', 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xD0, 0}, 1)
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 'a'}, 100)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		var short []uint64
		tap := newTap(&pieces{b: b, n: n}, time.Minute, func([]seen) error { return nil }, func(n uint64) { short = append(short, n) })
		tap.most = 8
		got, _ := io.ReadAll(tap)
		want, wantShort := shortened(b, 8)
		if !bytes.Equal(got, want) || !slices.Equal(short, wantShort) {
			t.Fatalf("%x, %v; want %x, %v", got, short, want, wantShort)
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
