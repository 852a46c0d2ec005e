package storage

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// The store that the figures for reading and opening are taken from: 10 million records in 1,000 partitions, as telemetry.
// RIVULET_BENCH_RECORDS makes it smaller.
const benchPartitions = 1000

func benchRecords(b *testing.B) int {
	if v := os.Getenv("RIVULET_BENCH_RECORDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 10_000_000
}

// bigStore makes that store, once, where RIVULET_BENCH_STORE says, or for this benchmark alone. It is closed. raw is the bytes of
// all records' payloads.
func bigStore(b *testing.B) (dir string, raw int64) {
	b.Helper()
	root := os.Getenv("RIVULET_BENCH_STORE")
	if root == "" {
		root = b.TempDir()
	}
	n := benchRecords(b)
	dir = filepath.Join(root, fmt.Sprint("store-", n))
	recs := telemetry(1000)
	raw = int64(n/len(recs)) * int64(rawSize(recs))
	if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
		return dir, raw
	}
	s := openTest(b, Options{Dir: dir, ScrubRate: -1})
	tp := createTest(b, s, "telemetry", benchPartitions)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range n / len(recs) {
		// A commit's records go to ten partitions, so that each gets 100 at a time.
		c := &Commit{}
		for k := range 10 {
			c.Appends = append(c.Appends, Append{Partition: tp.Partitions[(i*10+k)%benchPartitions], Records: recs[k*100 : k*100+100]})
		}
		for k := range recs {
			recs[k].Timestamp = 1700000000000 + int64(i)*1000 + int64(k) + rng.Int64N(50)
		}
		doTest(b, s, c)
	}
	closeTest(b, s)
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	return dir, raw
}

// BenchmarkReadSealed reads a partition's sealed batches from beginning to end, as a Kafka consumer or an uplink gets them: copied
// out, each against its CRC32C, not decompressed. raw MB/s is of what the records were.
func BenchmarkReadSealed(b *testing.B) {
	dir, raw := bigStore(b)
	s := openTest(b, Options{Dir: dir, ScrubRate: -1})
	defer closeTest(b, s)
	tp, _ := s.Topic("telemetry")
	all := func() (n int64) {
		for _, p := range tp.Partitions {
			start, _, high := p.Offsets()
			for at := start; at < high; {
				set, err := p.Read(at, high, 1<<20)
				if err != nil || len(set) == 0 {
					b.Fatal(len(set), err)
				}
				for _, data := range set {
					n += int64(len(data))
				}
				h, err := batch.ParseHeader(set[len(set)-1])
				if err != nil {
					b.Fatal(err)
				}
				at = h.NextOffset()
			}
		}
		return n
	}
	stored := all() // into the page cache
	b.SetBytes(raw)
	b.ReportAllocs()
	for b.Loop() {
		all()
	}
	b.ReportMetric(float64(stored), "stored-B")
	b.ReportMetric(float64(raw)/float64(stored), "raw/stored")
}

// BenchmarkOffsetLookup finds the batch that holds a random offset of a random partition, and where a time begins.
func BenchmarkOffsetLookup(b *testing.B) {
	dir, _ := bigStore(b)
	s := openTest(b, Options{Dir: dir, ScrubRate: -1})
	defer closeTest(b, s)
	tp, _ := s.Topic("telemetry")
	rng := rand.New(rand.NewPCG(1, 2))
	somewhere := func() (*Partition, int64) {
		p := tp.Partitions[rng.IntN(benchPartitions)]
		_, _, high := p.Offsets()
		return p, rng.Int64N(high)
	}
	b.Run("offset", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, offset := somewhere()
			entries := s.sealed.index(p.ID)
			if i := at(entries, offset); i == len(entries) {
				b.Fatal("not found")
			}
		}
	})
	b.Run("time to batch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := tp.Partitions[rng.IntN(benchPartitions)]
			s.sealed.firstAtOrAfter(p.ID, 0, 1700000000000+rng.Int64N(1_000_000))
		}
	})
	b.Run("offset, with its batch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, offset := somewhere()
			if set, err := p.Read(offset, math.MaxInt64, 1); err != nil || len(set) == 0 {
				b.Fatal(len(set), err)
			}
		}
	})
}

// BenchmarkOpenBig opens that store, from the page cache: closed well, and killed with full tails, when the journal is read.
func BenchmarkOpenBig(b *testing.B) {
	dir, _ := bigStore(b)
	b.Run("closed", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(context.Background(), Options{Dir: dir, ScrubRate: -1})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(anonymous(b))/(1<<20), "RssAnon-MiB")
			closeTest(b, s)
			b.StartTimer()
		}
	})
	b.Run("killed with full tails", func(b *testing.B) {
		dir := haltedCopy(b, dir) // others read the store
		s := openTest(b, Options{Dir: dir, ScrubRate: -1})
		tp, _ := s.Topic("telemetry")
		recs := telemetry(1000)
		s.sealed.faults = func(string) error { return errNotNow } // nothing is sealed, until the tails are full
		for i := 0; s.tailBytes.Load() < s.o.TailBytes*15/16; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			c := &Commit{Urgent: true}
			for k := range 10 {
				c.Appends = append(c.Appends, Append{Partition: tp.Partitions[(i*10+k)%benchPartitions], Records: recs[k*100 : k*100+100]})
			}
			err := s.Do(ctx, c)
			cancel()
			if err != nil {
				b.Fatal(err)
			}
		}
		killed := haltedCopy(b, dir)
		s.sealed.faults = func(string) error { return nil }
		closeTest(b, s)
		kept := haltedCopy(b, killed)
		b.ResetTimer()
		for b.Loop() {
			s, err := Open(context.Background(), Options{Dir: killed, ScrubRate: -1})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(s.tailBytes.Load())/(1<<20), "tails-MiB")
			b.ReportMetric(float64(anonymous(b))/(1<<20), "RssAnon-MiB")
			closeTest(b, s)
			if err := os.RemoveAll(killed); err != nil {
				b.Fatal(err)
			}
			if err := os.CopyFS(killed, os.DirFS(kept)); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

func haltedCopy(b *testing.B, dir string) (to string) {
	b.Helper()
	to = filepath.Join(b.TempDir(), "copy")
	if err := copyHalted(to, dir); err != nil {
		b.Fatal(err)
	}
	return to
}

var errNotNow = fmt.Errorf("not now: %w", os.ErrInvalid)

// anonymous is what the process holds that no file backs, in bytes; 0 where the system does not tell.
func anonymous(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := strings.CutPrefix(string(line), "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	return 0
}

// BenchmarkAppendBig appends commits of 100 records to a store that is empty, and to that one.
func BenchmarkAppendBig(b *testing.B) {
	big, _ := bigStore(b)
	for _, c := range []struct{ name, dir string }{{"empty", ""}, {"10 million records", big}} {
		b.Run(c.name, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "store")
			if c.dir != "" {
				if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
					b.Fatal(err)
				}
			}
			s := openTest(b, Options{Dir: dir, ScrubRate: -1})
			defer closeTest(b, s)
			tp, ok := s.Topic("telemetry")
			if !ok {
				tp = createTest(b, s, "telemetry", benchPartitions)
			}
			recs := telemetry(100)
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			for b.Loop() {
				doTest(b, s, &Commit{Appends: []Append{{Partition: tp.Partitions[n%benchPartitions], Records: recs}}})
				n++
			}
		})
	}
}
