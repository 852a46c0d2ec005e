package kafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// The whole way over loopback: one connection, requests encoded beforehand.

// sizedBatch is a batch of about size bytes, of 200-byte records.
func sizedBatch(size int) []byte {
	var w batch.Builder
	w.Begin(nil, 0, -1)
	value := make([]byte, 200)
	for i := 0; w.Len() < size-220; i++ {
		copy(value, fmt.Sprintf(`{"device":"press-%03d","temperature":%d.%d,"seq":%d}`, i%97, 20+i%9, i%10, i))
		w.Add(1_700_000_000_000+int64(i), batch.AppendPayload(nil, nil, value, nil))
	}
	return w.End(0, -1, -1, -1)
}

// framed is a request with its length before it.
func framed(req kmsg.Request, version int16) []byte {
	b := encodeRequest(req, version, 1)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// skip reads one response and throws it away.
func skip(r io.Reader, buf []byte) (int, error) {
	if _, err := io.ReadFull(r, buf[:4]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint32(buf))
	for left := n; left > 0; {
		k, err := r.Read(buf[:min(left, len(buf))])
		if err != nil {
			return 0, err
		}
		left -= k
	}
	return n, nil
}

func BenchmarkProduce16KiB(b *testing.B) {
	br := startBroker(b, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(br)
	defer r.close()
	records := sizedBatch(16 << 10)
	h, err := batch.ParseHeader(records)
	if err != nil {
		b.Fatal(err)
	}
	req := framed(produceRequest("t", 0, -1, records), 9)
	const inFlight = 32
	window := make(chan struct{}, inFlight)
	failed := make(chan error, 1)
	go func() {
		buf := make([]byte, 4<<10)
		for range window {
			if _, err := skip(r.nc, buf); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	b.SetBytes(int64(len(records)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		window <- struct{}{}
		if _, err := r.nc.Write(req); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)*float64(h.NumRecords)/b.Elapsed().Seconds(), "records/s")
	close(window)
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkFetch1MiB(b *testing.B) {
	br := startBroker(b, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(br)
	defer r.close()
	for range 160 {
		if p := r.produce("t", 0, sizedBatch(16<<10)); p.ErrorCode != 0 {
			b.Fatal(p.ErrorCode)
		}
	}
	req := framed(fetchRequest("t", 0, 0), 12)
	buf := make([]byte, 256<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.nc.Write(req); err != nil {
			b.Fatal(err)
		}
		n, err := skip(r.nc, buf)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(n))
	}
}
