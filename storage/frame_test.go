package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rivulet/storage/batch"
)

func testBody() []byte {
	raw := []byte{2}
	raw = appendPut(raw, Put{"space", "key", []byte("value")})
	raw = appendPut(raw, Put{"space", "gone", nil})
	raw = append(raw, 1)
	raw = appendMark(raw, mark{partition: 3, id: 1 << 40, epoch: 7, first: 12, records: 5, transactional: true, base: -1})
	raw = append(raw, 9, 0, 0, 0)
	var w batch.Builder
	w.Begin(raw, 100, 0)
	w.Add(5, record(0, "hello").Payload)
	return w.End(0, -1, -1, -1)
}

func TestFrameEncoding(t *testing.T) {
	noise := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var enc frameEncoder
	for _, raw := range [][]byte{{}, {0, 0}, testBody(), noise, noise[:frameAlign-frameHead], noise[:frameAlign-frameHead+1], bytes.Repeat([]byte("compressible "), 10_000)} {
		f := enc.encode(42, 99, raw)
		crc := stampFrame(f, 7, 0xabcd)
		if len(f)%frameAlign != 0 || len(f) > int(roundUp(int64(frameHead+len(raw)), frameAlign)) {
			t.Fatalf("%d raw bytes in %d", len(raw), len(f))
		}
		h, ok := parseFrameHeader(f)
		if !ok || h.seq != 42 || h.clock != 99 || h.file != 7 || h.prev != 0xabcd || h.crc != crc || h.size() != int64(len(f)) || !checkFrame(h, f) {
			t.Fatalf("%+v", h)
		}
		back, err := inflateFrame(h, f)
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("%d raw bytes came back as %d, %v", len(raw), len(back), err)
		}
		f[frameHead/2] ^= 1
		if h, ok := parseFrameHeader(f); ok && checkFrame(h, f) {
			t.Fatal("a flipped bit passes")
		}
	}
}

func TestBodyEncoding(t *testing.T) {
	b, err := parseBody(testBody())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Put{{"space", "key", []byte("value")}, {"space", "gone", nil}}, b.puts); diff != "" {
		t.Fatal(diff)
	}
	if want := (mark{partition: 3, id: 1 << 40, epoch: 7, first: 12, records: 5, transactional: true, base: -1}); len(b.marks) != 1 || b.marks[0] != want {
		t.Fatal(b.marks)
	}
	if len(b.batches) != 1 || b.batches[0].partition != 9 || b.batches[0].header.BaseOffset != 100 {
		t.Fatal(b.batches)
	}
}

// A frame must never take more than its commits were measured at: the journal makes room by that measure.
func TestCostBoundsFrame(t *testing.T) {
	s := openTest(t, Options{})
	defer closeTest(t, s)
	tp := createTest(t, s, "t", 20)
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		var group []*Commit
		total := int64(0)
		for range 1 + r.IntN(5) {
			c := &Commit{}
			for range r.IntN(20) {
				p := tp.Partitions[r.IntN(20)]
				switch r.IntN(3) {
				case 0:
					c.Appends = append(c.Appends, Append{Partition: p, Marker: &Marker{ProducerID: r.Int64(), Epoch: 5}})
				case 1:
					c.Appends = append(c.Appends, produced(p, -1, -1, -1, false, "x").Appends...)
				default:
					a := Append{Partition: p}
					for range r.IntN(4) {
						a.Records = append(a.Records, batch.Record{Timestamp: r.Int64() - r.Int64(), Payload: batch.AppendPayload(nil, nil, nil, nil)})
					}
					c.Appends = append(c.Appends, a)
				}
			}
			for range r.IntN(3) {
				c.Puts = append(c.Puts, Put{fmt.Sprint(r.IntN(9)), fmt.Sprint(r.IntN(9)), make([]byte, r.IntN(3))})
			}
			if r.IntN(2) == 0 {
				c.Producer = &Producer{Partition: tp.Partitions[0], ID: r.Int64(), Epoch: 32767, BaseSequence: 2147483647, Records: 2147483647, Transactional: true}
			}
			if err := c.measure(); err != nil {
				t.Fatal(err)
			}
			group = append(group, c)
			total += c.cost
		}
		s.onCommitter(func() {
			b := &s.build
			b.reset()
			for _, c := range group {
				if s.check(c) == nil {
					s.link(c)
					b.taken = append(b.taken, c)
				}
			}
			if raw := s.encode(total); int64(len(raw)) > total {
				t.Errorf("%d bytes, measured at %d", len(raw), total)
			} else if _, err := parseBody(raw); err != nil {
				t.Error(err)
			}
			s.events = s.events[:0]
		})
	}
}

func FuzzBody(f *testing.F) {
	f.Add(testBody())
	f.Add([]byte{0, 0})
	f.Add([]byte{255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parseBody(raw)
		if err != nil {
			return
		}
		for _, bb := range b.batches {
			if bb.header.Size() != len(bb.data) {
				t.Fatal("a batch of another length")
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	var enc frameEncoder
	b := enc.encode(1, 2, testBody())
	stampFrame(b, 1, 0)
	f.Add(bytes.Clone(b))
	b = enc.encode(1, 2, bytes.Repeat([]byte("0123456789"), 2000))
	stampFrame(b, 1, 0)
	f.Add(bytes.Clone(b))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseFrameHeader(b)
		if !ok || len(b) < frameHead+int(h.stored) || h.raw > 1<<20 {
			return
		}
		// Also where the CRC does not hold: it is 32 bits.
		if raw, err := inflateFrame(h, b); err == nil && len(raw) != int(h.raw) {
			t.Fatal("a body of another length")
		}
	})
}
