package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// TestTogether lets everything that a store does in the background run against everything that is asked of it at once: sealing,
// checkpoints, retention, compaction, copying forward, the budget and the scrub, with writers, readers, Frames, lookups, topics that come and
// go, trims, backups that are restored, and an end in the middle of it. The simulator goes through one thing after the other; this
// is for what one goroutine does between two looks of another. Every record says where it stands, so that readers check all that
// they get, and Frames must hold every record of a log that nothing is taken from.
//
// It is best run with -race. RIVULET_STRESS is how long one round takes, as a duration; 2 s by default.
func TestTogether(t *testing.T) {
	long := 2 * time.Second
	if v := os.Getenv("RIVULET_STRESS"); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatalf("RIVULET_STRESS: %v", err)
		}
	}
	for name, budget := range map[string]int64{"free": 0, "budget": 6 << 20} {
		t.Run(name, func(t *testing.T) { together(t, long, budget) })
	}
}

// crowd is one round of TestTogether.
type crowd struct {
	t     *testing.T
	s     *Store
	ctx   context.Context
	stop  context.CancelFunc
	group sync.WaitGroup
	ended atomic.Bool // Close was called: anything may be refused
	done  map[string]*atomic.Int64
}

func together(t *testing.T, long time.Duration, budget int64) {
	// The store's time goes a thousand times faster, so that what is due every ten seconds is due every ten milliseconds.
	began := time.Now()
	root, err := os.MkdirTemp(simRoot(), "rivulet-together") // a disk is slow, and makes for fewer meetings
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	o := Options{
		Dir:          filepath.Join(root, "data"),
		JournalBytes: 64 << 10, TailBytes: 256 << 10, LogFileBytes: 256 << 10, MaxBytes: budget,
		ScrubRate: 1 << 40, ScrubEvery: time.Second,
		Now: func() time.Time { return began.Add(1000 * time.Since(began)).Round(0) },
	}
	s := openTest(t, o)
	s.SetHold(nil)
	c := &crowd{t: t, s: s, done: map[string]*atomic.Int64{}}
	c.ctx, c.stop = context.WithTimeout(context.Background(), long)
	defer c.stop()

	// What nothing is ever taken from but by trims; a full budget refuses its records.
	kept := topicWith(t, s, "kept", 3, "retention.ms", "-1", "rivulet.when.full", "refuse", "rivulet.priority", "9").Partitions
	aged := topicWith(t, s, "aged", 2, "retention.ms", "600000").Partitions
	sized := topicWith(t, s, "sized", 2, "retention.ms", "-1", "retention.bytes", "100000").Partitions
	keyed := topicWith(t, s, "keyed", 2, "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.1", "delete.retention.ms", "1000").Partitions
	all := slices.Concat(kept, aged, sized, keyed)

	for i, p := range all {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		c.loop("write "+p.Topic(), func() error { return c.write(p, rng) })
	}
	for i, parts := range [][]*Partition{kept, aged, sized, keyed} {
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		c.loop("read "+parts[0].Topic(), func() error { return c.read(parts[rng.IntN(len(parts))], rng) })
	}
	c.loop("frames", func() error { return c.frames(kept) })
	lookups := rand.New(rand.NewPCG(1, 3))
	c.loop("lookups", func() error { return c.lookup(all[lookups.IntN(len(all))], lookups) })
	trims := rand.New(rand.NewPCG(1, 4))
	c.loop("trims", func() error { return c.trim(kept, trims) })
	turn := 0
	c.loop("topics", func() error { turn++; return c.topics(turn) })
	key := 0
	c.loop("keys", func() error { key++; return c.keys(key) })
	c.loop("backups", func() error { return c.backup(kept) })
	c.loop("looks", c.looks)

	<-c.ctx.Done()
	c.ended.Store(true)
	if err := s.Close(); err != nil { // readers and writers are still at it
		t.Error(err)
	}
	c.group.Wait()
	for name, n := range c.done {
		t.Logf("%s: %d times", name, n.Load())
	}
	problems, err := Verify(context.Background(), s.o.Dir)
	if err != nil || len(problems) > 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	c.reopened(o, len(all))
}

// loop runs step again and again until the store is closed or something is wrong. One turn at least comes after Close.
func (c *crowd) loop(name string, step func() error) {
	n := &atomic.Int64{}
	c.done[name] = n
	c.group.Go(func() {
		for last := false; !last; {
			last = c.ended.Load() && c.s.readable() != nil
			err := step()
			switch {
			case err == nil:
				n.Add(1)
			case c.ctx.Err() != nil: // time is up, or it was closed under it
			case errors.Is(err, ErrFull): // the budget; somebody makes room
			default:
				c.t.Errorf("%s: %v", name, err)
				c.stop()
				return
			}
		}
	})
}

// readable reports whether the store's files are still open.
func (s *Store) readable() error {
	_, err := s.meta.get("space", "none")
	return err
}

// placed is the value of the record at an offset: where it stands, and something that compresses like telemetry.
func placed(p *Partition, offset int64, size int) string {
	head := fmt.Sprintf("%s/%d/%d/", p.Topic(), p.Index, offset)
	return head + strings.Repeat(strconv.FormatInt(offset*7919, 36), 1+size/4)
}

// write appends some records. It is the partition's only writer.
func (c *crowd) write(p *Partition, rng *rand.Rand) error {
	_, _, next := p.Offsets()
	a := Append{Partition: p}
	n, size := 1+rng.IntN(20), rng.IntN(300)
	for i := range int64(n) {
		var k []byte
		if p.Topic() == "keyed" {
			k = fmt.Appendf(nil, "key %d", rng.IntN(50))
		}
		a.Records = append(a.Records, batch.Record{Timestamp: 1000 + next + i, Payload: batch.AppendPayload(nil, k, []byte(placed(p, next+i, size)), nil)})
	}
	commit := &Commit{Appends: []Append{a}, Urgent: rng.IntN(10) == 0}
	err := c.s.Do(c.ctx, commit)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err == nil && commit.Appends[0].Base != next {
		return fmt.Errorf("records for offset %d were placed at %d", next, commit.Appends[0].Base)
	}
	return err
}

// follow checks a batch of p and calls fn, which may be nil, with the offsets of its records. It returns the offset behind it.
func follow(p *Partition, b []byte, fn func(offset int64)) (next int64, err error) {
	if err := batch.Check(b); err != nil {
		return 0, err
	}
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return 0, err
	}
	for {
		r, ok := d.Next()
		if !ok {
			return d.Header().NextOffset(), d.Err()
		}
		if want := fmt.Sprintf("%s/%d/%d/", p.Topic(), p.Index, r.Offset); !bytes.HasPrefix(r.Payload.Value(), []byte(want)) {
			return 0, fmt.Errorf("record %s holds %.40s", want, r.Payload.Value())
		}
		if fn != nil {
			fn(r.Offset)
		}
	}
}

// read reads from somewhere to the end.
func (c *crowd) read(p *Partition, rng *rand.Rand) error {
	w := NewWaiter()
	p.Watch(w)
	defer p.Unwatch(w)
	start, _, high := p.Offsets()
	if start == high {
		c.wait(w)
		return nil
	}
	from := start
	if rng.IntN(2) == 0 {
		from += rng.Int64N(high - start)
	}
	for from < high {
		set, err := p.Read(from, high, 1+rng.IntN(100_000))
		if errors.Is(err, ErrOffsetRange) {
			if now, _, _ := p.Offsets(); now > from {
				return nil // it was taken meanwhile
			}
		}
		if err != nil {
			return fmt.Errorf("read %s/%d at %d: %w", p.Topic(), p.Index, from, err)
		}
		if len(set) == 0 {
			return fmt.Errorf("read %s/%d at %d of %d: nothing", p.Topic(), p.Index, from, high)
		}
		for _, b := range set {
			next, err := follow(p, b, nil)
			if err != nil {
				return fmt.Errorf("read %s/%d at %d: %w", p.Topic(), p.Index, from, err)
			}
			if next <= from {
				return fmt.Errorf("read %s/%d at %d: a batch up to %d", p.Topic(), p.Index, from, next)
			}
			from = next
		}
	}
	return nil
}

// settle waits until what partitions show is in Frames, too: a frame comes into both one after the other.
func (c *crowd) settle() error {
	return c.s.Do(c.ctx, &Commit{Puts: []Put{{"space", "settle", nil}}, Urgent: true})
}

// frames reads all frames: every record of the partitions that was there before and is there afterwards must come, once, in order.
func (c *crowd) frames(parts []*Partition) error {
	until := map[*Partition]int64{}
	for _, p := range parts {
		_, _, until[p] = p.Offsets()
	}
	if err := c.settle(); err != nil {
		return err
	}
	next := map[*Partition]int64{}
	missed := map[*Partition]int64{} // offset behind the last record that did not come
	more := func() bool {
		return slices.ContainsFunc(parts, func(p *Partition) bool { return next[p] < until[p] })
	}
	for after := uint64(0); more(); {
		frames, err := c.s.Frames(after, 64<<10)
		if err != nil {
			return err
		}
		if len(frames) == 0 {
			break
		}
		for _, f := range frames {
			if f.Seq <= after {
				return fmt.Errorf("frames behind %d: %d", after, f.Seq)
			}
			after = f.Seq
			for _, b := range f.Batches {
				if _, counts := until[b.Partition]; !counts {
					continue
				}
				_, err := follow(b.Partition, b.Data, func(offset int64) {
					if offset != next[b.Partition] {
						missed[b.Partition] = offset
					}
					next[b.Partition] = offset + 1
				})
				if err != nil {
					return fmt.Errorf("frame %d: %w", f.Seq, err)
				}
			}
		}
	}
	for _, p := range parts {
		start, _, _ := p.Offsets()
		if missed[p] > start {
			return fmt.Errorf("frames of %s/%d, which begins at %d, miss records before offset %d", p.Topic(), p.Index, start, missed[p])
		}
		if next[p] < until[p] && start < until[p] {
			return fmt.Errorf("frames of %s/%d end at %d, not at %d", p.Topic(), p.Index, next[p], until[p])
		}
	}
	return nil
}

// lookup asks where something stands.
func (c *crowd) lookup(p *Partition, rng *rand.Rand) error {
	start, _, high := p.Offsets()
	if start == high {
		return c.settle()
	}
	// Timestamps are offsets here.
	want := start + rng.Int64N(high-start)
	got, ts, ok, err := p.OffsetForTime(1000 + want)
	now, _, _ := p.Offsets()
	if err != nil {
		return fmt.Errorf("offset for time %d of %s/%d: %w", want, p.Topic(), p.Index, err)
	}
	if now <= want && p.Topic() != "keyed" && (!ok || got != want || ts != 1000+want) {
		return fmt.Errorf("offset for time %d of %s/%d: %d, %d, %v", want, p.Topic(), p.Index, got, ts, ok)
	}
	if err := c.settle(); err != nil {
		return err
	}
	seq, err := p.SeqOf(want)
	if err != nil {
		return err
	}
	if now, _, _ = p.Offsets(); now <= want && seq == 0 {
		return fmt.Errorf("frame of offset %d of %s/%d: %d", want, p.Topic(), p.Index, seq)
	}
	if seq > 0 && now <= want && p.Topic() == "kept" {
		frames, err := c.s.Frames(seq-1, 1)
		if now, _, _ = p.Offsets(); err != nil || now <= want && !holds(frames, p, want) {
			return fmt.Errorf("offset %d of %s/%d is not in frame %d: %d frames, %w", want, p.Topic(), p.Index, seq, len(frames), err)
		}
	}
	if _, _, err := p.MaxTimestamp(); err != nil {
		return fmt.Errorf("newest of %s/%d: %w", p.Topic(), p.Index, err)
	}
	return nil
}

func holds(frames []Frame, p *Partition, offset int64) (found bool) {
	for _, f := range frames {
		for _, b := range f.Batches {
			if b.Partition == p {
				_, _ = follow(p, b.Data, func(o int64) { found = found || o == offset })
			}
		}
	}
	return found
}

// trim takes the older half of what is more than some records.
func (c *crowd) trim(parts []*Partition, rng *rand.Rand) error {
	p := parts[rng.IntN(len(parts))]
	w := NewWaiter()
	p.Watch(w)
	defer p.Unwatch(w)
	start, _, high := p.Offsets()
	if high-start < 5000 {
		c.wait(w)
		return nil
	}
	return c.s.Trim(c.ctx, []Start{{Partition: p, Offset: start + rng.Int64N(high-start)}})
}

// topics makes a topic, changes it, fills it, reads it and deletes it, while it is sealed and copied.
func (c *crowd) topics(turn int) error {
	name := fmt.Sprintf("brief-%d", turn%3)
	t, err := c.s.CreateTopic(c.ctx, name, 2, map[string]string{"rivulet.priority": strconv.Itoa(turn % 4)})
	if err != nil {
		return err
	}
	for i := range 20 {
		if i == 10 {
			if t, err = c.s.AddPartitions(c.ctx, name, 4); err == nil {
				t, err = c.s.AlterTopic(c.ctx, name, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": strconv.Itoa(1000 * turn)})
			}
			if err != nil {
				return err
			}
		}
		p := t.Partitions[i%len(t.Partitions)]
		_, _, next := p.Offsets()
		rec := batch.Record{Timestamp: 1, Payload: batch.AppendPayload(nil, []byte("k"), []byte(placed(p, next, 1000)), nil)}
		if err := c.s.Do(c.ctx, &Commit{Appends: []Append{{Partition: p, Records: []batch.Record{rec}}}}); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
		for _, p := range t.Partitions {
			start, _, high := p.Offsets()
			if _, err := p.Read(start, high, 1<<20); err != nil && !errors.Is(err, ErrOffsetRange) { // retention is faster
				return err
			}
		}
	}
	if err := c.s.DeleteTopic(c.ctx, name); err != nil {
		return err
	}
	for _, p := range t.Partitions {
		if _, err := p.Read(0, 1, 1); !errors.Is(err, ErrNoTopic) {
			return fmt.Errorf("read a deleted topic: %w", err)
		}
	}
	return nil
}

// keys changes values and sees that no checkpoint takes one back.
func (c *crowd) keys(n int) error {
	key, value := strconv.Itoa(n%7), strings.Repeat(strconv.Itoa(n), 1+n%5*300)
	put := &Commit{Puts: []Put{{"space", key, []byte(value)}, {"space", "gone " + key, nil}}, Urgent: true}
	if err := c.s.Do(c.ctx, put); err != nil {
		return err
	}
	if got, err := c.s.Get("space", key); err != nil || string(got) != value {
		return fmt.Errorf("key %s is %.20q, not %.20q: %w", key, got, value, err)
	}
	found := false
	err := c.s.Scan("space", "", func(k string, v []byte) bool {
		found = found || k == key && string(v) == value
		return true
	})
	if err == nil && !found {
		err = fmt.Errorf("scan does not find key %s", key)
	}
	return err
}

// backup makes one and restores it: all that was there before must be in it.
func (c *crowd) backup(parts []*Partition) error {
	highs := map[string]int64{}
	for _, p := range parts {
		_, _, highs[fmt.Sprint(p.Index)] = p.Offsets()
	}
	var b bytes.Buffer
	if _, err := c.s.Backup(c.ctx, &b, nil); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(c.s.o.Dir), "restored")
	if _, err := Restore(context.Background(), bytes.NewReader(b.Bytes()), dir, RestoreOptions{}); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := Open(context.Background(), Options{Dir: dir, ScrubRate: -1})
	if err != nil {
		return err
	}
	t, ok := s.Topic("kept")
	if !ok {
		err = errors.New("the backup has no topic kept")
	} else {
		for _, p := range t.Partitions {
			start, _, high := p.Offsets()
			for from := start; from < high && err == nil; {
				var set [][]byte
				set, err = p.Read(from, high, 1<<20)
				for _, b := range set {
					if from, err = follow(p, b, nil); err != nil {
						break
					}
				}
			}
			if err == nil && high < highs[fmt.Sprint(p.Index)] {
				err = fmt.Errorf("the backup has %d of %d records", high, highs[fmt.Sprint(p.Index)])
			}
		}
	}
	return errors.Join(err, s.Close())
}

// looks asks for everything that operators see.
func (c *crowd) looks() error {
	w := NewWaiter()
	c.s.WatchAll(w)
	defer c.s.UnwatchAll(w)
	st := c.s.Stats()
	_ = st.WrittenBytes()
	c.s.Dropped()
	c.s.Scrub()
	if found := c.s.Problems(); len(found) > 0 {
		return fmt.Errorf("%v", found)
	}
	for _, t := range c.s.Topics() {
		for _, p := range t.Partitions {
			p.Size()
			p.Unsealed()
			p.OpenTxns()
			p.Aborted(0, 1<<40)
		}
	}
	c.wait(w)
	return nil
}

// wait waits for w, or the end.
func (c *crowd) wait(w *Waiter) {
	select {
	case <-w.C:
	case <-c.ctx.Done():
	}
}

// reopened opens the store again: what it held is there.
func (c *crowd) reopened(o Options, partitions int) {
	o.Dir = c.s.o.Dir
	s := openTest(c.t, o)
	defer closeTest(c.t, s)
	n := 0
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			if strings.HasPrefix(t.Name, "brief") {
				continue
			}
			n++
			start, _, high := p.Offsets()
			for from := start; from < high; {
				set, err := p.Read(from, high, 1<<20)
				if now, _, _ := p.Offsets(); errors.Is(err, ErrOffsetRange) && now > from {
					from = now // retention is at it again
					continue
				}
				if err != nil || len(set) == 0 {
					c.t.Fatalf("%s/%d at %d: %d batches, %v", t.Name, p.Index, from, len(set), err)
				}
				for _, b := range set {
					if from, err = follow(p, b, nil); err != nil {
						c.t.Fatal(err)
					}
				}
			}
		}
	}
	if n != partitions {
		c.t.Errorf("%d partitions, want %d", n, partitions)
	}
}
