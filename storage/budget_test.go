package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// smallBudget are options of a store whose every part is small, and the least budget that it takes.
func smallBudget(o Options) Options {
	o.JournalBytes, o.TailBytes, o.LogFileBytes = 256<<10, 512<<10, 1<<20
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	return o
}

// topicWith makes a topic with a configuration.
func topicWith(t testing.TB, s *Store, name string, partitions int, config ...string) *Topic {
	t.Helper()
	set := map[string]string{}
	for i := 0; i < len(config); i += 2 {
		set[config[i]] = config[i+1]
	}
	tp, err := s.CreateTopic(context.Background(), name, partitions, set)
	if err != nil {
		t.Fatal(err)
	}
	return tp
}

// filler makes records that do not compress.
type filler struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (f *filler) append(p *Partition, n, size int) *Commit {
	f.mu.Lock()
	defer f.mu.Unlock()
	records := make([]batch.Record, n)
	for i := range records {
		b := make([]byte, size)
		for k := range b {
			b[k] = byte(f.rng.Uint32())
		}
		records[i] = batch.Record{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, b, nil)}
	}
	return &Commit{Appends: []Append{{Partition: p, Records: records}}}
}

func newFiller() *filler { return &filler{rng: rand.New(rand.NewPCG(1, 2))} }

// fillUntilFull appends until the store refuses, which it must before limit bytes were taken.
func fillUntilFull(t *testing.T, s *Store, p *Partition, limit int64) {
	t.Helper()
	f := newFiller()
	for taken := int64(0); taken < limit; taken += 64 << 10 {
		err := s.Do(context.Background(), f.append(p, 64, 1024))
		if errors.Is(err, ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d bytes were taken within a budget of %d", limit, s.o.MaxBytes)
}

// until polls, for what the sealer does by itself after a while.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 2 minutes: %s", what)
		}
	}
}

func TestBudgetTooSmall(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(context.Background(), Options{Dir: dir, MaxBytes: 16 << 20})
	var small *BudgetError
	if !errors.As(err, &small) || !strings.Contains(err.Error(), "storage.max_bytes of 16777216 bytes is too small") {
		t.Fatalf("%v", err)
	}
	s, err := Open(context.Background(), testOptions(t, Options{Dir: dir, MaxBytes: small.Least}))
	if err != nil {
		t.Fatal(err) // and the lock was given back
	}
	closeTest(t, s)
}

// What a topic that refuses holds stays; new records are refused until there is room, which a trim makes.
func TestBudgetRefuses(t *testing.T) {
	s := openTest(t, smallBudget(Options{WhenFull: Refuse}))
	defer closeTest(t, s)
	s.SetHold(nil)
	p := createTest(t, s, "t", 1).Partitions[0]
	fillUntilFull(t, s, p, 2*s.o.MaxBytes)
	start, _, high := p.Offsets()
	if start != 0 {
		t.Fatalf("records before %d were dropped", start)
	}
	// What only releases is taken all the same.
	doTest(t, s, &Commit{Urgent: true, Puts: []Put{{Space: "x", Key: "k", Value: []byte("v")}}})
	if st := s.Stats(); !st.Full || !strings.Contains(st.FullReason, "storage.max_bytes") || st.DiskBytes == 0 || st.DiskBytes > st.BudgetBytes {
		t.Fatalf("%+v", st)
	}
	if err := s.Trim(context.Background(), []Start{{Partition: p, Offset: high}}); err != nil {
		t.Fatal(err)
	}
	until(t, "records are taken again", func() bool { return s.Do(context.Background(), newFiller().append(p, 1, 1024)) == nil })
}

// What an uplink still needs is kept, and new records are refused, until it has moved on; a topic may say that it does not care.
func TestBudgetHolds(t *testing.T) {
	s := openTest(t, smallBudget(Options{}))
	defer closeTest(t, s)
	kept := createTest(t, s, "kept", 1).Partitions[0]
	var mirrored atomic.Int64
	s.SetHold(func(*Partition) (int64, bool) { return mirrored.Load(), true })
	fillUntilFull(t, s, kept, 2*s.o.MaxBytes)
	if start, _, _ := kept.Offsets(); start != 0 {
		t.Fatalf("what was not mirrored before %d was dropped", start)
	}
	_, _, high := kept.Offsets()
	mirrored.Store(high / 2)
	until(t, "the uplink's progress makes room", func() bool { return s.Do(context.Background(), newFiller().append(kept, 1, 1024)) == nil })
	if start, _, _ := kept.Offsets(); start == 0 || start > high/2 {
		t.Fatalf("log start %d, the uplink is at %d", start, high/2)
	}
	fillUntilFull(t, s, kept, 2*s.o.MaxBytes)
	start, _, _ := kept.Offsets()
	if start > high/2 {
		t.Fatalf("log start %d, the uplink is at %d", start, high/2)
	}
	careless := map[string]string{"rivulet.drop.unmirrored": "true"}
	if _, err := s.AlterTopic(context.Background(), "kept", careless); err != nil {
		t.Fatal(err)
	}
	until(t, "records are dropped unmirrored", func() bool { return s.Do(context.Background(), newFiller().append(kept, 1, 1024)) == nil })
	if start, _, _ := kept.Offsets(); start <= high/2 {
		t.Fatalf("log start %d: nothing was dropped", start)
	}
}

// Nothing is dropped before anyone could say what is needed.
func TestBudgetWaitsForHold(t *testing.T) {
	s := openTest(t, smallBudget(Options{}))
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	fillUntilFull(t, s, p, 2*s.o.MaxBytes)
	if start, _, _ := p.Offsets(); start != 0 {
		t.Fatalf("records before %d were dropped", start)
	}
	s.SetHold(nil)
	until(t, "records are taken again", func() bool { return s.Do(context.Background(), newFiller().append(p, 1, 1024)) == nil })
}

// The lowest priority goes first, the oldest of it first; what refuses and what is compacted stays.
func TestBudgetOrder(t *testing.T) {
	s := openTest(t, smallBudget(Options{}))
	defer closeTest(t, s)
	s.SetHold(nil)
	low := topicWith(t, s, "low", 2).Partitions
	high := topicWith(t, s, "high", 1, "rivulet.priority", "7").Partitions[0]
	stays := topicWith(t, s, "stays", 1, "rivulet.when.full", "refuse").Partitions[0]
	compacted := topicWith(t, s, "compacted", 1, "cleanup.policy", "compact").Partitions[0]
	f := newFiller()
	for _, p := range []*Partition{stays, compacted, high} {
		doTest(t, s, f.append(p, 64, 1024))
	}
	for range 200 {
		doTest(t, s, f.append(low[0], 16, 1024))
		doTest(t, s, f.append(low[1], 16, 1024))
	}
	starts := [2]int64{}
	for i, p := range low {
		starts[i], _, _ = p.Offsets()
	}
	if starts[0] == 0 || starts[1] == 0 || max(starts[0], starts[1])-min(starts[0], starts[1]) > 1024 {
		t.Errorf("low priority begins at %v: want about the same age", starts)
	}
	for _, p := range []*Partition{stays, compacted, high} {
		if start, _, _ := p.Offsets(); start != 0 {
			t.Errorf("%s begins at %d", p.Topic(), start)
		}
	}
	want := Dropped{Topic: "low", Reason: DropBudget, Records: uint64(starts[0] + starts[1])}
	if got := s.Dropped(); !slices.Contains(got, want) { // compaction counts its own
		t.Errorf("dropped are %+v, want %+v", got, want)
	}
	for range 200 {
		doTest(t, s, f.append(high, 32, 1024))
	}
	if start, _, _ := high.Offsets(); start == 0 {
		t.Error("of the high priority nothing was dropped when nothing else was left")
	}
	for _, p := range []*Partition{stays, compacted} {
		if start, _, _ := p.Offsets(); start != 0 {
			t.Errorf("%s begins at %d", p.Topic(), start)
		}
	}
}

func TestBudgetTooLargeFor32Bits(t *testing.T) {
	o := Options{MaxBytes: 65 << 30}.withDefaults()
	var b budget
	if err := b.init(o, 64); err != nil {
		t.Error(err)
	}
	if err := b.init(o, 32); err == nil || !strings.Contains(err.Error(), "address space") || !strings.Contains(err.Error(), "at most 68719476736 bytes") {
		t.Errorf("%v", err)
	}
	if n := largestLogFile(32); n != 16<<20 {
		t.Errorf("log files of %d bytes", n)
	}
}

// Twenty times the budget, as fast as it goes, into all kinds of topics: what is on the disk never goes beyond the budget.
func TestBudgetIsHeld(t *testing.T) {
	dir, err := os.MkdirTemp(simRoot(), "budget-") // in memory if there is such a folder: this is not about the disk's speed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := testOptions(t, smallBudget(Options{Dir: dir}))
	s := openTest(t, o)
	peak := watchDisk(t, s.o.Dir)
	topics := []*Topic{
		topicWith(t, s, "plain", 8),
		topicWith(t, s, "one", 1, "rivulet.priority", "3"),
		topicWith(t, s, "uplinked", 2, "rivulet.priority", "9"),
		topicWith(t, s, "careless", 2, "rivulet.drop.unmirrored", "true"),
		topicWith(t, s, "short", 2, "retention.bytes", "65536"),
	}
	var mirrored sync.Map // partition → offset
	s.SetHold(func(p *Partition) (int64, bool) {
		if p.Topic() != "uplinked" && p.Topic() != "careless" {
			return 0, false
		}
		_, _, high := p.Offsets()
		from := max(0, high-200) // an uplink that keeps up, a little behind
		if p.Topic() == "careless" {
			from = 0 // and one that never does
		}
		mirrored.Store(p, from)
		return from, true
	})
	const writers = 4
	want := 20 * s.o.MaxBytes
	var written, refused atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f := &filler{rng: rand.New(rand.NewPCG(uint64(w), 1))}
			for i := 0; written.Load() < want; i++ {
				tp := topics[f.rng.IntN(len(topics))]
				p := tp.Partitions[f.rng.IntN(len(tp.Partitions))]
				n := 1 + f.rng.IntN(100)
				err := s.Do(context.Background(), f.append(p, n, 1024))
				switch {
				case errors.Is(err, ErrFull):
					refused.Add(1)
				case err != nil:
					t.Error(err)
					return
				default:
					written.Add(int64(n) << 10)
				}
				if i%50 == 0 {
					key := fmt.Sprint("k", f.rng.IntN(200))
					if err := s.Do(context.Background(), &Commit{Urgent: true, Puts: []Put{{Space: "meta", Key: key, Value: make([]byte, 1000)}}}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, p := range topics[2].Partitions {
		at, _ := mirrored.Load(p)
		if start, _, _ := p.Offsets(); at != nil && start > at.(int64) {
			t.Errorf("uplinked/%d begins at %d, the uplink is at %d", p.Index, start, at)
		}
	}
	most := peak()
	t.Logf("wrote %d MiB into a budget of %d MiB: at most %.1f MiB on the disk, %d commits refused", written.Load()>>20, s.o.MaxBytes>>20,
		float64(most)/(1<<20), refused.Load())
	if most > s.o.MaxBytes*5/4 {
		t.Errorf("%d bytes were on the disk, the budget is %d", most, s.o.MaxBytes)
	}
	closeTest(t, s)
	s = openTest(t, o)
	defer closeTest(t, s)
	if n, _, _, err := s.disk.measure(); err != nil || n > s.o.MaxBytes*5/4 {
		t.Errorf("%d bytes after a restart, %v", n, err)
	}
}

// watchDisk adds up the blocks under dir again and again; what it returns ends that and tells the most.
func watchDisk(t *testing.T, dir string) (peak func() int64) {
	done, ended := make(chan struct{}), make(chan int64)
	go func() {
		d := diskUse{dir: dir, now: time.Now}
		most := int64(0)
		for {
			if n, _, _, err := d.measure(); err == nil {
				most = max(most, n)
			}
			select {
			case <-done:
				ended <- most
				return
			default:
			}
		}
	}()
	var once sync.Once
	var most int64
	stop := func() { once.Do(func() { close(done); most = <-ended }) }
	t.Cleanup(stop)
	return func() int64 { stop(); return most }
}

// Records that share files with others that must stay give nothing back when they are dropped: what stays is copied to a file of its own
// then, and no more goes than needs to.
func TestBudgetDropsNoMoreThanItNeeds(t *testing.T) {
	for _, share := range []int{4, 12, 14} { // of 16 records, those that stay
		t.Run(fmt.Sprint(share, " of 16 stay"), func(t *testing.T) {
			s := openTest(t, smallBudget(Options{MaxBytes: 16 << 20, FS: newSimFS()}))
			defer closeTest(t, s)
			s.SetHold(nil)
			stays := topicWith(t, s, "stays", 1, "rivulet.when.full", "refuse").Partitions[0]
			goes := topicWith(t, s, "goes", 1).Partitions[0]
			f := newFiller()
			write := func(stay int) {
				doTest(t, s, f.append(goes, 4*(16-stay), 1024))
				if stay > 0 {
					doTest(t, s, f.append(stays, 4*stay, 1024))
				}
			}
			for range 80 { // 5 MiB of both
				write(share)
			}
			last := int64(0)
			for range 120 { // and what cannot all stay
				write(0)
				start, _, high := goes.Offsets()
				if start-last > 2<<10 {
					t.Fatalf("%d records of %d KiB were dropped at once, from %d of %d", start-last, start-last, last, high)
				}
				last = start
			}
			if last == 0 {
				t.Error("nothing was dropped")
			}
			if start, _, _ := stays.Offsets(); start > 0 {
				t.Errorf("%d records were dropped of a topic that refuses", start)
			}
			if n, _, _, err := s.disk.measure(); err != nil || n > s.o.MaxBytes*5/4 {
				t.Errorf("%d bytes are taken of %d, %v", n, s.o.MaxBytes, err)
			}
		})
	}
}
