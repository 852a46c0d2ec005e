package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// failNth makes the n-th of the named operations from now on fail with err, and as many behind it as times says.
func (s *simFS) failNth(op string, n, times int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := 0
	s.fail = func(o, _ string) error {
		if o != op {
			return nil
		}
		seen++
		if seen >= n && seen < n+times {
			return err
		}
		return nil
	}
}

func openSim(t *testing.T, dir string, disk FS) (*Store, *Partition) {
	t.Helper()
	s, err := Open(context.Background(), smallOptions(t, dir, disk))
	if err != nil {
		t.Fatal(err)
	}
	tp, ok := s.Topic("t")
	if !ok {
		tp = createTest(t, s, "t", 2)
	}
	return s, tp.Partitions[0]
}

func mustKill(t *testing.T, s *Store) {
	t.Helper()
	if err := kill(s); err != nil {
		t.Fatal(err)
	}
}

// A sync that fails: the frame goes to another file, and recovery keeps one of the two, whichever of them reached the disk.
func TestFailedSync(t *testing.T) {
	for _, end := range []string{"killed", "power cut"} {
		for _, op := range []string{"sync", "write"} {
			t.Run(op+", "+end, func(t *testing.T) {
				disk, dir := newSimFS(), t.TempDir()
				s, p := openSim(t, dir, disk)
				put(t, s, p, "a")
				disk.failNth(op, 1, 1, errSimSync)
				put(t, s, p, "b", "c")
				put(t, s, p, "d")
				if s.Stats().ReadOnly {
					t.Fatal("read-only after one failure")
				}
				wantValues(t, p, "a", "b", "c", "d")
				mustKill(t, s)
				r := rand.New(rand.NewPCG(1, 2))
				for range 3 {
					if end == "killed" {
						disk = disk.kill()
					} else {
						disk = disk.crash(r)
					}
					s, p = openSim(t, dir, disk)
					if len(s.Problems()) > 0 {
						t.Fatal(s.Problems())
					}
					wantValues(t, p, "a", "b", "c", "d")
					mustKill(t, s)
				}
			})
		}
	}
}

// The file whose sync failed is never written or synced again, nor taken back into use.
func TestFailedSyncAbandonsFile(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	bad := ""
	disk.mu.Lock()
	disk.fail = func(op, path string) error {
		switch {
		case op == "sync" && bad == "":
			bad = path
			return errSimSync
		case path == bad && (op == "sync" || op == "write" || op == "rename"):
			t.Errorf("%s of %s", op, filepath.Base(path))
		}
		return nil
	}
	disk.mu.Unlock()
	for i := range 400 {
		put(t, s, p, fmt.Sprintf("%d %s", i, strings.Repeat("x", 2000)))
	}
	if s.Stats().SealedBytes == 0 {
		t.Fatal("nothing was sealed, so no file was recycled")
	}
	disk.mu.Lock()
	defer disk.mu.Unlock()
	if _, there := disk.files[bad]; there {
		t.Fatal("the file is still there")
	}
}

func TestFailedTwice(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	put(t, s, p, "a")
	disk.failNth("sync", 1, 2, errSimSync)
	if err := s.Do(context.Background(), appendOf(p, "b")); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	if err := s.Do(context.Background(), appendOf(p, "c")); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	if !s.Stats().ReadOnly {
		t.Fatal("no flag")
	}
	wantValues(t, p, "a") // still readable
	mustKill(t, s)
	// b was refused; it may be there or not, but once, and what follows it counts.
	s, p = openSim(t, dir, disk.kill())
	_, _, high := p.Offsets()
	want := []string{"a", "b"}[:high]
	put(t, s, p, "d")
	wantValues(t, p, append(want, "d")...)
	closeTest(t, s)
}

func TestTornFrame(t *testing.T) {
	for seed := range uint64(8) {
		disk, dir := newSimFS(), t.TempDir()
		s, p := openSim(t, dir, disk)
		put(t, s, p, "a")
		// Off between the write and the sync of a frame of many sectors.
		disk.failNth("sync", 1, 1000, errSimSync)
		big := make([]string, 100)
		for i := range big {
			big[i] = fmt.Sprintf("%d %d", i, rand.Uint64())
		}
		if err := s.Do(context.Background(), appendOf(p, big...)); err == nil {
			t.Fatal("acknowledged")
		}
		mustKill(t, s)
		s, p = openSim(t, dir, disk.crash(rand.New(rand.NewPCG(seed, 3))))
		if len(s.Problems()) > 0 {
			t.Fatal(s.Problems())
		}
		if _, _, high := p.Offsets(); high != 1 && high != 101 {
			t.Fatalf("half a frame: %d records", high)
		}
		put(t, s, p, "b")
		closeTest(t, s)
	}
}

// currentFile finds the file with the newest frames and where each of its frames starts.
func currentFile(t *testing.T, s *Store) (path string, frames []int64) {
	t.Helper()
	f := s.journal.cur
	sc := scan{j: s.journal}
	for off := int64(0); off < f.size; {
		h, b, err := sc.frameAt(f, off)
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		frames = append(frames, off)
		off += h.size()
	}
	return s.journal.path(f.no), frames
}

func TestCorruptFrame(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	q := must(s.Topic("t")).Partitions[1]
	put(t, s, q, "q")
	put(t, s, p, "a")
	put(t, s, p, "lost")
	put(t, s, p, "b")
	doTest(t, s, &Commit{Puts: []Put{{"test", "k", []byte("v")}}})
	gen := s.Generation()
	path, frames := currentFile(t, s)
	mustKill(t, s)
	disk = disk.kill()
	disk.flip(path, frames[len(frames)-3]+60)

	s, p = openSim(t, dir, disk)
	if len(s.Problems()) == 0 {
		t.Fatal("no problem is reported")
	}
	got := valuesOf(t, p, 0)
	if len(got) != 2 || got[0] != "a" || got[2] != "b" {
		t.Fatalf("got %v", got)
	}
	if v, _ := s.Get("test", "k"); string(v) != "v" {
		t.Fatalf("got %q", v)
	}
	forked := s.Generation()
	if forked.ID == gen.ID || forked.Parent != gen.ID || forked.Fork[p.ID] != 1 || forked.Fork[p.ID+1] != 1 {
		t.Fatalf("generation %+v, was %+v", forked, gen)
	}
	disk.mu.Lock()
	if disk.files[path] != nil || disk.files[path+quarantineSuffix] == nil {
		t.Fatal("the file is not quarantined")
	}
	disk.mu.Unlock()
	put(t, s, p, "c")
	mustKill(t, s)

	s, p = openSim(t, dir, disk.kill())
	if d := s.Damages(); len(s.Problems()) != 1 || len(d) != 1 || d[0].First != 1 || d[0].Next != 2 || s.Generation().ID != forked.ID {
		t.Fatalf("%v, generation %+v", s.Problems(), s.Generation())
	}
	if got := valuesOf(t, p, 0); len(got) != 3 || got[3] != "c" {
		t.Fatalf("got %v", got)
	}
	if got := valuesOf(t, p, 1); len(got) != 2 {
		t.Fatalf("from inside the gap: %v", got)
	}
	closeTest(t, s)
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not there")
	}
	return v
}

// A frame that is sealed and checkpointed is no loss when it rots.
func TestCorruptFrameNotNeeded(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	for i := range 8 {
		put(t, s, p, fmt.Sprint(i))
	}
	path, frames := currentFile(t, s)
	gen := s.Generation()
	closeTest(t, s)
	disk = disk.kill()
	disk.flip(path, frames[2]+60)
	s, p = openSim(t, dir, disk)
	if len(s.Problems()) == 0 || s.Generation().ID != gen.ID {
		t.Fatalf("%v, generation %v", s.Problems(), s.Generation())
	}
	wantValues(t, p, "0", "1", "2", "3", "4", "5", "6", "7")
	closeTest(t, s)
}

// A full disk: records are refused when tails and journal are full, urgent commits go on, and it ends by itself.
func TestDiskFull(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	o := smallOptions(t, dir, disk)
	var full atomic.Bool
	o.faults = func(string) error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeTest(t, s) }()
	p := createTest(t, s, "t", 1).Partitions[0]
	full.Store(true)
	disk.mu.Lock()
	disk.space = 0
	disk.mu.Unlock()
	n := 0
	for {
		err := s.Do(context.Background(), appendOf(p, fmt.Sprintf("%06d%s", n, strings.Repeat("y", 1000))))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if n > 10000 {
			t.Fatal("never full")
		}
	}
	if !s.Stats().Full {
		t.Fatal("no flag")
	}
	for i := range 20 { // what is urgent has its files for itself
		doTest(t, s, &Commit{Urgent: true, Puts: []Put{{"offsets", fmt.Sprint(i), []byte("1")}}})
		begun := s.journal.spareFiles() < keepSpares
		switch err := s.Do(context.Background(), appendOf(p, "short")); {
		case err == nil && !begun:
			n++
		case !errors.Is(err, ErrFull):
			t.Fatalf("a record after %d urgent commits, the reserve begun: %v: %v", i+1, begun, err)
		}
	}
	if s.journal.spareFiles() == keepSpares {
		t.Fatal("the reserve was not begun")
	}
	full.Store(false)
	disk.mu.Lock()
	disk.space = -1
	disk.mu.Unlock()
	s.wakeSealer()
	s.journal.kick()
	s.queueMu.Lock()
	for s.stuck.Load() != nil || s.journal.failing() != nil {
		s.room.Wait()
	}
	s.queueMu.Unlock()
	put(t, s, p, fmt.Sprintf("%06d", n))
	if got := valuesOf(t, p, 0); len(got) != n+1 {
		t.Fatalf("%d records of %d", len(got), n+1)
	}
}

// Journal files may be made smaller between two runs, also smaller than the last frame, which is written again at the start.
func TestSmallerJournalFiles(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	o := testOptions(t, Options{Dir: dir, FS: disk, JournalBytes: 4 << 20})
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	p := createTest(t, s, "t", 1).Partitions[0]
	noise := make([]byte, 2<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	put(t, s, p, string(noise))
	mustKill(t, s)
	disk = disk.kill()
	o.FS, o.JournalBytes = disk, 1<<20
	if s, err = Open(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	p = must(s.Topic("t")).Partitions[0]
	put(t, s, p, "b")
	wantValues(t, p, string(noise), "b")
	sealNow(t, s)
	put(t, s, p, "c")
	closeTest(t, s)
	if s, err = Open(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	wantValues(t, must(s.Topic("t")).Partitions[0], string(noise), "b", "c")
	closeTest(t, s)
}

// A log file that was lost: what was in it is reported, and its offsets are not given out again.
func TestLostLogFile(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	put(t, s, p, "a", "b", "c")
	gen := s.Generation()
	closeTest(t, s)
	logs, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.db"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	if err := os.Truncate(logs[0], 5000); err != nil {
		t.Fatal(err)
	}
	s, p = openSim(t, dir, disk)
	if len(s.Problems()) != 2 || s.Generation().ID != gen.ID { // the file, and what is missing
		t.Fatal(s.Problems(), s.Generation())
	}
	if base := put(t, s, p, "d"); base != 3 {
		t.Fatalf("base %d", base)
	}
	if got := valuesOf(t, p, 0); len(got) != 1 || got[3] != "d" {
		t.Fatal(got)
	}
	closeTest(t, s)
}

// When no file can be made, those that there are go round: sealing frees them.
func TestNoNewJournalFiles(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer func() { closeTest(t, s) }()
	// The current file half written, so that there is one file beside those in reserve.
	n := 0
	for ; s.journal.room.Load() >= s.journal.size/2; n++ {
		put(t, s, p, fmt.Sprintf("%06d", n))
	}
	s.queueMu.Lock()
	for s.journal.spareFiles() <= keepSpares {
		s.room.Wait()
	}
	s.queueMu.Unlock()
	disk.mu.Lock()
	disk.space = 0
	disk.mu.Unlock()
	for ; n < 1500; n++ {
		put(t, s, p, fmt.Sprintf("%06d%s", n, strings.Repeat("y", 1000)))
	}
	if got := valuesOf(t, p, 0); len(got) != n {
		t.Fatalf("%d records", len(got))
	}
}

func (j *journal) spareFiles() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.spares)
}

// The first sync of a new store fails, and so does the second: nothing is left running.
func TestOpenFails(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	disk.failNth("sync", 1, 1000, errSimSync)
	if _, err := Open(context.Background(), smallOptions(t, dir, disk)); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	s, p := openSim(t, dir, disk.kill())
	put(t, s, p, "a")
	closeTest(t, s)
}
