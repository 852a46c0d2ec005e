package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rivulet/storage/batch"
)

// tortureModel is what was acknowledged by the store that is damaged.
type tortureModel struct {
	records map[string]tortureRecord // by topic/partition@offset
	keys    map[string]string
	last    uint64 // commit sequence
}

type tortureRecord struct {
	value string
	seq   uint64
}

// tortureStores are stores to be damaged: one that was closed, and one that was killed with much in its journal.
func tortureStores(t *testing.T) (dirs []string, m *tortureModel) {
	t.Helper()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10, ScrubRate: -1}
	s := openTest(t, o)
	m = &tortureModel{records: map[string]tortureRecord{}, keys: map[string]string{}}
	rng := rand.New(rand.NewPCG(7, 7))
	topics := []*Topic{createTest(t, s, "a", 2), createTest(t, s, "b", 1)}
	write := func(n int) {
		for i := range n {
			tp := topics[rng.IntN(len(topics))]
			p := tp.Partitions[rng.IntN(len(tp.Partitions))]
			noise := make([]byte, 20+rng.IntN(900))
			for k := range noise {
				noise[k] = 'a' + byte(rng.IntN(26))
			}
			c := appendOf(p, fmt.Sprintf("%s/%d %d %s", tp.Name, p.Index, i, noise), "small")
			key := fmt.Sprint("key", rng.IntN(40))
			value := fmt.Sprintf("%s %d %s", key, i, strings.Repeat("v", rng.IntN(3000)))
			c.Puts = []Put{{"space", key, []byte(value)}}
			doTest(t, s, c)
			for k, r := range c.Appends[0].Records {
				at := fmt.Sprintf("%s/%d@%d", tp.Name, p.Index, c.Appends[0].Base+int64(k))
				m.records[at] = tortureRecord{string(r.Payload.Value()), c.Seq}
			}
			m.keys[key], m.last = value, c.Seq
		}
	}
	write(250)
	closeTest(t, s)
	if err := os.MkdirAll(filepath.Join(o.Dir, "plugins"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "plugins", "ab12.wasm"), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, o)
	for i := range topics {
		topics[i], _ = s.Topic(topics[i].Name)
	}
	write(60)
	killed := filepath.Join(t.TempDir(), "killed")
	if err := s.haltCopy(killed); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	return []string{o.Dir, killed}, m
}

// haltCopy copies the store's files as a kill would leave them, between two rounds of the sealer.
func (s *Store) haltCopy(to string) (err error) {
	s.onSealer(func() { err = copyHalted(to, s.o.Dir) })
	return err
}

// copyHalted copies a store's files as a kill would leave them; the one that makes and renames journal files may be at work.
func copyHalted(to, dir string) (err error) {
	for range 20 {
		if err = os.CopyFS(to, os.DirFS(dir)); err == nil {
			return nil
		}
		if e := os.RemoveAll(to); e != nil {
			return e
		}
	}
	return err
}

// audit reads all of a store and holds it against the model: what is there is right, and what is not is told. cut is the first
// frame whose loss leaves no trace, since it was the journal's last: 0 for none.
func (m *tortureModel) audit(s *Store, problems func() []Problem, cut uint64) error {
	missing := map[string]int{}
	found := map[string]bool{}
	topics := map[uint32]string{}
	for _, tp := range s.Topics() {
		for _, p := range tp.Partitions {
			topics[p.ID] = tp.Name
			values, err := tortureRead(p)
			if err != nil {
				return err
			}
			for offset, v := range values {
				at := fmt.Sprintf("%s/%d@%d", tp.Name, p.Index, offset)
				if strings.HasPrefix(tp.Name, orphanPrefix) {
					at = fmt.Sprintf("%s@%d", [...]string{"a/0", "a/1", "b/0"}[p.ID], offset)
				}
				if want, ok := m.records[at]; !ok || want.value != v {
					return fmt.Errorf("%s is %.60q, want %.60q", at, v, want.value)
				}
				found[at] = true
			}
		}
	}
	newest := uint64(0)
	for at := range found {
		newest = max(newest, m.records[at].seq)
	}
	silent := func(seq uint64) bool { return cut > 0 && seq >= cut && seq > newest }
	for at, r := range m.records {
		if !found[at] && !silent(r.seq) {
			missing[at[:1]]++
		}
	}
	stale := 0
	for key, want := range m.keys {
		got, err := s.Get("space", key)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if err == nil && string(got) != want && cut == 0 {
			stale++
		}
		if err == nil && got != nil && !strings.HasPrefix(string(got), key+" ") {
			return fmt.Errorf("%s is %.60q", key, got)
		}
	}
	told := problems()
	for topic, n := range missing {
		if !slices.ContainsFunc(told, func(p Problem) bool {
			return p.Topic == topic || strings.Contains(p.File, "journal") || strings.Contains(p.File, "meta")
		}) {
			return fmt.Errorf("%d records of topic %s are missing, and nobody says so: %v", n, topic, told)
		}
	}
	if stale > 0 && len(told) == 0 {
		return fmt.Errorf("%d keys are old, and nobody says so", stale)
	}
	return nil
}

// tortureRead reads a partition to its end.
func tortureRead(p *Partition) (map[int64]string, error) {
	out := map[int64]string{}
	start, _, high := p.Offsets()
	for at := start; at < high; {
		set, err := p.Read(at, high, 64<<10)
		if err != nil || len(set) == 0 {
			return nil, fmt.Errorf("read %s/%d at %d of %d: %d batches: %w", p.topic, p.Index, at, high, len(set), err)
		}
		for _, b := range set {
			var d batch.Decoder
			if err := errors.Join(batch.Check(b), d.Reset(b, 0)); err != nil {
				return nil, err
			}
			for r, ok := d.Next(); ok; r, ok = d.Next() {
				out[r.Offset] = string(r.Payload.Value())
			}
			next := d.Header().NextOffset()
			if next <= at {
				return nil, fmt.Errorf("read %s/%d at %d: a batch that ends at %d", p.topic, p.Index, at, next)
			}
			at = next
		}
	}
	return out, nil
}

// torture damages one file of a store at a random place; it returns what it did and, for the journal, the first frame that it may
// have touched.
func torture(rng *rand.Rand, dir string) (what string, cut uint64, err error) {
	var files []string
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "LOCK" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return "", 0, err
	}
	path := files[rng.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil {
		return "", 0, err
	}
	used := len(b)
	for used > 0 && b[used-1] == 0 {
		used--
	}
	at := rng.IntN(max(used, 1))
	if rng.IntN(8) == 0 {
		at = rng.IntN(max(len(b), 1))
	}
	page := at / pageSize * pageSize
	end := min(page+pageSize, len(b))
	from := at
	switch k := rng.IntN(10); {
	case k < 4 && len(b) > 0:
		what = "a flipped bit"
		b[at] ^= 1 << rng.IntN(8)
	case k < 6:
		what, from = "a zeroed page", page
		clear(b[page:end])
	case k < 7:
		what = "a torn page"
		half := min(page+512*(1+rng.IntN(7)), end)
		from = half
		clear(b[half:end])
	case k < 8:
		what = "a page of noise"
		from = page
		for i := page; i < end; i++ {
			b[i] = byte(rng.Uint32())
		}
	case k < 9:
		what = "cut off"
		b = b[:at]
	default:
		what, from = "gone", 0
	}
	if strings.HasSuffix(path, walSuffix) {
		if cut, err = frameAtOrBefore(path, from); err != nil {
			return "", 0, err
		}
	}
	what = fmt.Sprintf("%s: %s at %d of %d", strings.TrimPrefix(path, dir), what, at, len(b))
	if strings.Contains(what, "gone") {
		return what, cut, os.Remove(path)
	}
	return what, cut, os.WriteFile(path, b, 0o600)
}

// frameAtOrBefore is the sequence of the last frame of a journal file that begins at or before byte at, and 1 when there is none.
func frameAtOrBefore(path string, at int) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	no, _ := walNumber(filepath.Base(path))
	seq := uint64(1)
	for off := 0; off <= at && off+frameAlign <= len(b); off += frameAlign {
		if h, ok := parseFrameHeader(b[off:]); ok && h.file == no {
			seq = max(seq, h.seq)
		}
	}
	return seq, nil
}

// tortureOnce damages a copy of a store and opens it. The error says what broke the promise.
func tortureOnce(rng *rand.Rand, store string, m *tortureModel, told func([]Problem) []Problem) (what string, err error) {
	root, err := os.MkdirTemp(simRoot(), "rivulet-torture")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	dir := filepath.Join(root, "copy")
	if err := os.CopyFS(dir, os.DirFS(store)); err != nil {
		return "", err
	}
	what, cut, err := torture(rng, dir)
	if err != nil {
		return what, err
	}
	o := Options{Dir: dir, JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
	s, err := Open(context.Background(), o)
	if err != nil {
		if strings.HasPrefix(what, "/VERSION") && errors.Is(err, ErrNewerFormat) {
			return what, nil // a digit became another one: nothing tells that from a newer program's store
		}
		return what, err
	}
	defer func() {
		if cerr := s.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close: %w", cerr)
		}
		if err == nil {
			err = tortureAgain(o)
		}
	}()
	if err := m.audit(s, func() []Problem { return told(s.Problems()) }, cut); err != nil {
		return what, err
	}
	// It is a store that goes on.
	for _, tp := range s.Topics() {
		p := tp.Partitions[0]
		_, _, high := p.Offsets()
		c := appendOf(p, "new")
		if err := s.Do(context.Background(), c); err != nil {
			return what, fmt.Errorf("append: %w", err)
		}
		if c.Appends[0].Base != high {
			return what, fmt.Errorf("offset %d follows %d", c.Appends[0].Base, high-1)
		}
	}
	return what, nil
}

// tortureAgain opens the damaged store once more.
func tortureAgain(o Options) error {
	s, err := Open(context.Background(), o)
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	for _, tp := range s.Topics() {
		values, err := tortureRead(tp.Partitions[0])
		if err != nil {
			return errors.Join(err, s.Close())
		}
		_, _, high := tp.Partitions[0].Offsets()
		if values[high-1] != "new" {
			return errors.Join(fmt.Errorf("what was appended after the damage to %s is gone", tp.Name), s.Close())
		}
	}
	return s.Close()
}

// TestTorture damages copies of real stores, every file, at random places: the store opens, serves the rest, says what is
// missing, and goes on. RIVULET_TORTURES is how many; RIVULET_TORTURE runs one alone.
func TestTorture(t *testing.T) {
	dirs, m := tortureStores(t)
	n, first := 200, 0
	if v := os.Getenv("RIVULET_TORTURES"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("RIVULET_TORTURE"); v != "" {
		var err error
		if first, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
		n = first + 1
	}
	kinds := map[string]int{}
	for seed := first; seed < n; seed++ {
		rng := rand.New(rand.NewPCG(uint64(seed), 13))
		what, err := tortureOnce(rng, dirs[seed%len(dirs)], m, func(p []Problem) []Problem { return p })
		if err != nil {
			t.Errorf("%s: %v\nrun it again: RIVULET_TORTURE=%d go test -run TestTorture ./storage/", what, err, seed)
			if t.Failed() && seed > first+20 && n < 1000 {
				return
			}
		}
		kinds[strings.FieldsFunc(what, func(r rune) bool { return r == '/' || r == ':' })[0]]++
	}
	t.Log(kinds)
}

// The check itself: where nobody tells what is missing, it fails.
func TestTortureFindsSilence(t *testing.T) {
	dirs, m := tortureStores(t)
	failed := 0
	for seed := range 40 {
		rng := rand.New(rand.NewPCG(uint64(seed), 13))
		if _, err := tortureOnce(rng, dirs[seed%len(dirs)], m, func([]Problem) []Problem { return nil }); err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("records are missing, nobody says so, and the check is content")
	}
	t.Logf("%d of 40", failed)
}
