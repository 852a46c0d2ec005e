package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"rivulet/storage/batch"
)

// telemetry makes n records of about 165 bytes, as sensors send them.
func telemetry(n int) []batch.Record {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]batch.Record, n)
	for i := range out {
		device := fmt.Sprintf("plant/line-%d/sensor-%04d", r.IntN(9), r.IntN(1000))
		value := fmt.Sprintf(`{"ts":%d,"temperature":%.2f,"humidity":%.2f,"pressure":%.1f,"battery":%d,"status":"ok"}`,
			1700000000000+int64(i)*7, 20+r.Float64()*10, 40+r.Float64()*20, 1000+r.Float64()*20, r.IntN(100))
		out[i] = batch.Record{
			Timestamp: 1700000000000 + int64(i),
			Payload:   batch.AppendPayload(nil, []byte(device), []byte(value), []batch.KV{{Key: "mqtt.topic", Value: []byte(device)}}),
		}
	}
	return out
}

func rawSize(records []batch.Record) (n int) {
	for _, r := range records {
		n += len(r.Payload)
	}
	return n
}

// BenchmarkCommit1000 appends commits of 1000 records over many partitions, one at a time.
func BenchmarkCommit1000(b *testing.B) {
	for _, partitions := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) {
			s := openTest(b, Options{})
			defer closeTest(b, s)
			tp := createTest(b, s, "telemetry", partitions)
			// Ten commits over different partitions, so that 10000 of them are all used.
			recs := telemetry(1000)
			commits := make([]*Commit, 10)
			for k := range commits {
				c := &Commit{}
				used := min(partitions, len(recs))
				for i := range used {
					c.Appends = append(c.Appends, Append{Partition: tp.Partitions[(k*1000+i)%partitions]})
				}
				for i, r := range recs {
					c.Appends[i%used].Records = append(c.Appends[i%used].Records, r)
				}
				commits[k] = c
			}
			b.SetBytes(int64(rawSize(recs)))
			b.ReportAllocs()
			before := s.Stats()
			n := 0
			for b.Loop() {
				if err := s.Do(context.Background(), commits[n%len(commits)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
			st := s.Stats()
			b.ReportMetric(float64(n)*1000/b.Elapsed().Seconds(), "records/s")
			payload := float64(n) * float64(rawSize(recs))
			b.ReportMetric(float64(st.JournalBytes-before.JournalBytes)/payload, "journal/raw")
			b.ReportMetric(float64(st.JournalBytes+st.SealedBytes+st.CheckpointBytes-before.JournalBytes)/payload, "written/raw")
		})
	}
}

// BenchmarkPipelined submits slices of 100 records from 10 goroutines, each with 10 slices in flight.
func BenchmarkPipelined(b *testing.B) {
	s := openTest(b, Options{})
	defer closeTest(b, s)
	tp := createTest(b, s, "telemetry", 10)
	recs := telemetry(10_000)
	b.SetBytes(int64(rawSize(recs)) / 100)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range 10 {
		wg.Go(func() {
			free := make(chan *Commit, 10)
			for i := range cap(free) {
				from := (g*10 + i) * 100
				free <- &Commit{Appends: []Append{{Partition: tp.Partitions[g], Records: recs[from : from+100]}}, Done: func(c *Commit) { free <- c }}
			}
			for range b.N / 10 {
				c := <-free
				if c.Err != nil {
					b.Error(c.Err)
				}
				if err := s.Submit(context.Background(), c); err != nil {
					b.Error(err)
				}
			}
			for range cap(free) {
				<-free
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkOpen opens and closes a new store: what stands between a start and readiness.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	n := 0
	for b.Loop() {
		s, err := Open(context.Background(), Options{Dir: fmt.Sprintf("%s/%d", dir, n)})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		closeTest(b, s)
		n++
		b.StartTimer()
	}
}
