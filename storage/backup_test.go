package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// contents are the values of all partitions by topic, index and offset, and those of a space.
func contents(t *testing.T, s *Store, space string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, tp := range s.Topics() {
		for _, p := range tp.Partitions {
			for offset, v := range wholeValues(t, p) {
				out[fmt.Sprintf("%s/%d@%d", tp.Name, p.Index, offset)] = v
			}
		}
	}
	err := s.Scan(space, "", func(key string, value []byte) bool {
		out[space+":"+key] = string(value)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameContents(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s is %.60q, want %.60q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
}

// A backup under load is the store after one commit: for every partition and key the same number of commits.
func TestBackupIsOneMoment(t *testing.T) {
	o := Options{Dir: t.TempDir(), JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10}
	s := openTest(t, o)
	tp := createTest(t, s, "a", 3)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	started := make(chan struct{})
	writers.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			c := &Commit{Puts: []Put{{"space", "n", fmt.Append(nil, n)}}}
			for _, p := range tp.Partitions {
				c.Appends = append(c.Appends, appendOf(p, fmt.Sprintf("commit %d %s", n, strings.Repeat("x", 200))).Appends...)
			}
			if err := s.Do(context.Background(), c); err != nil {
				t.Error(err)
				return
			}
			if n == 50 {
				close(started)
			}
		}
	})
	<-started
	for round := range 5 {
		var file bytes.Buffer
		told := int64(0)
		m, err := s.Backup(t.Context(), &file, func(done, total int64) {
			if done < told || done > total {
				t.Errorf("%d of %d bytes, after %d", done, total, told)
			}
			told = done
		})
		if err != nil {
			t.Fatal(err)
		}
		if told != m.Bytes || m.Generation != s.Generation().ID || m.Seq == 0 {
			t.Fatalf("%d bytes told: %+v", told, m)
		}
		if again, err := VerifyBackup(bytes.NewReader(file.Bytes()), nil); err != nil || again != m {
			t.Fatal(again, err)
		}
		dir := filepath.Join(t.TempDir(), "deep", "restored")
		if _, err := Restore(t.Context(), bytes.NewReader(file.Bytes()), dir, RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		if problems, err := Verify(t.Context(), dir); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		r := openTest(t, Options{Dir: dir})
		n, err := r.Get("space", "n")
		if err != nil {
			t.Fatal(err)
		}
		g := r.Generation()
		if g.Parent != m.Generation || g.ID == m.Generation || len(r.Problems()) > 0 {
			t.Fatal(g, r.Problems())
		}
		back, _ := r.Topic("a")
		for _, p := range back.Partitions {
			values := wholeValues(t, p)
			if fmt.Sprint(len(values)) != string(n) || !strings.HasPrefix(values[int64(len(values)-1)], "commit "+string(n)+" ") || g.Fork[p.ID] != int64(len(values)) {
				t.Fatalf("round %d: partition %d has %d records, key n is %s, fork %v", round, p.Index, len(values), n, g.Fork)
			}
		}
		// It is a store like any other, and its commits follow those of the backup.
		put(t, r, back.Partitions[0], "new")
		if r.LastSeq() <= m.Seq {
			t.Fatal(r.LastSeq(), m.Seq)
		}
		frames, err := r.Frames(0, math.MaxInt)
		if err != nil || len(frames) == 0 {
			t.Fatal(len(frames), err)
		}
		closeTest(t, r)
	}
	stop()
	writers.Wait()
	want := contents(t, s, "space")
	closeTest(t, s)
	s = openTest(t, o)
	sameContents(t, contents(t, s, "space"), want)
	closeTest(t, s)
}

// A closed store is backed up byte for byte, with what only its journal holds.
func TestBackupOfAClosedStore(t *testing.T) {
	o := Options{Dir: t.TempDir(), JournalBytes: 64 << 10}
	s := openTest(t, o)
	tp := createTest(t, s, "a", 1)
	put(t, s, tp.Partitions[0], "one", "two")
	if _, err := BackupClosed(t.Context(), o.Dir, io.Discard, nil); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	want := contents(t, s, "space")
	killed := filepath.Join(t.TempDir(), "killed")
	if err := copyHalted(killed, o.Dir); err != nil {
		t.Fatal(err)
	}
	gen := s.Generation().ID
	closeTest(t, s)
	if err := os.Remove(filepath.Join(killed, versionFile)); err != nil { // "however damaged it is"
		t.Fatal(err)
	}
	for _, dir := range []string{o.Dir, killed} {
		var file bytes.Buffer
		m, err := BackupClosed(t.Context(), dir, &file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if m.Created.IsZero() || m.Format != formatVersion {
			t.Errorf("the backup says %+v", m)
		}
		if file.Len() > 300<<10 {
			t.Errorf("%d bytes: zeros are not worth that", file.Len())
		}
		restored := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), &file, restored, RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		r := openTest(t, Options{Dir: restored})
		sameContents(t, contents(t, r, "space"), want)
		if r.Generation().Parent != gen {
			t.Fatal(r.Generation())
		}
		closeTest(t, r)
	}
}

// Who looks at a directory in which there is no store is told so; one whose VERSION is lost is still one.
func TestNoStore(t *testing.T) {
	dir := t.TempDir()
	if _, err := Verify(t.Context(), dir); !errors.Is(err, ErrNoStore) {
		t.Error(err)
	}
	if _, err := BackupClosed(t.Context(), dir, io.Discard, nil); !errors.Is(err, ErrNoStore) {
		t.Error(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Error("it was written to:", files, err)
	}
	o := Options{Dir: dir}
	closeTest(t, openTest(t, o))
	if err := os.Remove(filepath.Join(dir, versionFile)); err != nil {
		t.Fatal(err)
	}
	if problems, err := Verify(t.Context(), dir); err != nil || len(problems) != 1 || filepath.Base(problems[0].File) != versionFile {
		t.Error(problems, err)
	}
}

// A backup that is cut off or damaged anywhere is refused and leaves nothing behind.
func TestDamagedBackupIsRefused(t *testing.T) {
	o := Options{Dir: t.TempDir(), JournalBytes: 64 << 10}
	s := openTest(t, o)
	put(t, s, createTest(t, s, "a", 1).Partitions[0], "one", "two")
	var file bytes.Buffer
	if _, err := s.Backup(t.Context(), &file, nil); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	whole := file.Bytes()
	refused := func(what string, b []byte) {
		t.Helper()
		parent := t.TempDir()
		for _, dir := range []string{parent, filepath.Join(parent, "new")} {
			_, err := Restore(t.Context(), bytes.NewReader(b), dir, RestoreOptions{})
			if !errors.Is(err, ErrBackup) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("%s: %v", what, err)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Fatalf("%s: left behind %v, %v", what, left, err)
			}
		}
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/60 {
		refused(fmt.Sprint("cut off at ", at), whole[:at])
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		refused(fmt.Sprint("bit flipped at ", at), b)
	}
	refused("one byte short", whole[:len(whole)-1])
	refused("one byte more", append(bytes.Clone(whole), 0))
	refused("twice", append(bytes.Clone(whole), whole...))
	if _, err := Restore(t.Context(), bytes.NewReader(whole), o.Dir, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatal(err)
	}
	s = openTest(t, o) // unharmed
	closeTest(t, s)
}

// failingReader ends with an error of its own.
type failingReader struct {
	io.Reader
	err error
}

func (r *failingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = r.err
	}
	return n, err
}

// A restore that was killed leaves a mark by which a start refuses the directory.
func TestCutOffRestoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, restoring), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrRestoring) {
		t.Fatal(err)
	}
	if _, err := BackupClosed(t.Context(), dir, io.Discard, nil); !errors.Is(err, ErrRestoring) {
		t.Fatal("half a store was backed up:", err)
	}
	if _, err := Verify(t.Context(), dir); !errors.Is(err, ErrRestoring) {
		t.Fatal("half a store was verified:", err)
	}
	wrong := errors.New("the cable was pulled")
	r := &failingReader{strings.NewReader(backupMagic), wrong}
	if _, err := Restore(t.Context(), r, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); !errors.Is(err, wrong) {
		t.Fatal(err)
	}
}

// A store of an older format, made and killed by the program of that time: it opens, keeps all it had, and is one of the new format.
// Its backup from before is still one.
func TestUpgrade(t *testing.T) {
	for format, values := range map[int]int{1: 222, 2: 202} {
		t.Run(fmt.Sprint(format), func(t *testing.T) { testUpgrade(t, format, values) })
	}
}

func testUpgrade(t *testing.T, format, values int) {
	old, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("store-v%d.backup", format)))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "store")
	unpack(t, old, dir)
	if v, now, err := Format(dir); v != format || now != formatVersion || err != nil {
		t.Fatal(v, now, err)
	}
	var backup bytes.Buffer
	if m, err := BackupClosed(t.Context(), dir, &backup, nil); err != nil || m.Format != format {
		t.Fatal(m, err)
	}
	if problems, err := Verify(t.Context(), dir); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if err := Upgrade(t.Context(), testOptions(t, Options{Dir: dir})); err != nil {
		t.Fatal(err)
	}
	check := func(dir string) {
		t.Helper()
		if v, _, err := Format(dir); v != formatVersion || err != nil {
			t.Fatal(v, err)
		}
		s := openTest(t, Options{Dir: dir})
		got := contents(t, s, "space")
		if len(got) != values || got["space:key"] != "value" || got["space:other"] != "in the journal" || len(s.Problems()) > 0 {
			t.Fatal(len(got), s.Problems())
		}
		for i := range 200 {
			if v := got[fmt.Sprintf("a/%d@%d", i%2, i/2)]; v != fmt.Sprintf("value %d of a store of format %d, which is %d", i, format, i*i) {
				t.Fatal(i, v)
			}
		}
		tp, _ := s.Topic("a")
		put(t, s, tp.Partitions[0], "new")
		closeTest(t, s)
		if problems, err := Verify(t.Context(), dir); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
	}
	check(dir)
	restored := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), &backup, restored, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	check(restored)
	if err := os.WriteFile(filepath.Join(dir, versionFile), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
	if err := Upgrade(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
}

// unpack writes a backup's files and opens nothing.
func unpack(t *testing.T, backup []byte, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &restoreWriter{ctx: t.Context(), dir: dir}
	if err := readBackup(bytes.NewReader(backup), w); err != nil {
		t.Fatal(err)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
}

// memorySink keeps a backup's files.
type memorySink struct {
	files map[string][]byte
	last  string
}

func (m *memorySink) manifest(Manifest) error { return nil }

func (m *memorySink) begin(name string, _ int64) error {
	m.last, m.files[name] = name, nil
	return nil
}

func (m *memorySink) data(p []byte) error {
	m.files[m.last] = append(m.files[m.last], p...)
	return nil
}

func FuzzReadBackup(f *testing.F) {
	var file bytes.Buffer
	w, err := newBackupWriter(&file, Manifest{Format: formatVersion})
	if err != nil {
		f.Fatal(err)
	}
	for name, data := range map[string]string{"VERSION": "2\n", "log/default/000001.db": strings.Repeat("batch", 100)} {
		if err := errors.Join(w.begin(name, int64(len(data))), w.data([]byte(data))); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add(file.Bytes()[:file.Len()/2])
	f.Add([]byte(backupMagic + "\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &memorySink{files: map[string][]byte{}}
		if err := readBackup(bytes.NewReader(b), m); err != nil {
			return
		}
		for name := range m.files {
			if !filepath.IsLocal(filepath.FromSlash(name)) {
				t.Fatalf("%q leads out of the directory", name)
			}
		}
	})
}
