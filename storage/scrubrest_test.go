package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A page of the journal goes bad while its records are in memory: the scrub finds it and has them sealed, so that a power cut behind
// that loses nothing.
func TestScrubSavesWhatTheJournalLost(t *testing.T) {
	for _, scrubbed := range []bool{true, false} {
		disk := newSimFS()
		o := Options{Dir: t.TempDir(), FS: disk, JournalBytes: 64 << 10, ScrubRate: -1}
		s := openTest(t, o)
		p := createTest(t, s, "t", 1).Partitions[0]
		f := newFiller()
		n := 0
		s.onSealer(func() { // which, when a slow disk presses, would seal some of it
			for ; len(s.journal.waitingFiles()) < 3; n++ {
				doTest(t, s, f.append(p, 1, 4000))
			}
			s.pressed.Store(false)
		})
		hurt := s.journal.waitingFiles()[1]
		disk.flip(s.journal.path(hurt.no), frameHead+100)
		if scrubbed {
			if read := s.scrub.scrubJournal(t.Context()); read < 2*o.JournalBytes {
				t.Fatalf("%d bytes were read", read)
			}
			if told := s.Problems(); len(told) != 1 || told[0].File != s.journal.path(hurt.no) {
				t.Fatalf("%+v", told)
			}
			if slices.Contains(s.journal.waitingFiles(), hurt) {
				t.Error("the damaged file is still needed")
			}
			s.scrub.scrubJournal(t.Context())
			if told := s.Problems(); len(told) != 1 {
				t.Errorf("told twice: %+v", told)
			}
		}
		gen := s.Generation().ID
		if err := kill(s); err != nil {
			t.Fatal(err)
		}
		o.FS = disk.kill()
		s = openTest(t, o)
		got := len(valuesOf(t, must(s.Topic("t")).Partitions[0], 0))
		if scrubbed && (got != n || s.Generation().ID != gen) {
			t.Errorf("%d records, want %d; generation %v", got, n, s.Generation())
		}
		if !scrubbed && got == n {
			t.Error("the damage does no harm: nothing is shown")
		}
		closeTest(t, s)
	}
}

// Uploads are read, by the scrub and by Verify.
func TestScrubReadsUploads(t *testing.T) {
	o := Options{Dir: t.TempDir(), ScrubRate: -1}
	s := openTest(t, o)
	folder := filepath.Join(o.Dir, "plugins")
	name := func(b []byte) string {
		sum := sha256.Sum256(b)
		return filepath.Join(folder, hex.EncodeToString(sum[:])+".wasm")
	}
	good, bad := []byte("a module"), []byte("another one")
	if err := errors.Join(
		os.Mkdir(folder, 0o700), os.WriteFile(name(good), good, 0o600), os.WriteFile(name(bad), []byte("another on "), 0o600),
		os.WriteFile(filepath.Join(folder, "note.txt"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if n := s.scrub.scrubUploads(t.Context()); n != int64(len(good)+len(bad)) {
		t.Errorf("%d bytes were read", n)
	}
	check := func(told []Problem) {
		t.Helper()
		if len(told) != 1 || told[0].File != name(bad) || !strings.Contains(told[0].Detail, "push the plugin again") {
			t.Errorf("%+v", told)
		}
	}
	check(s.Problems())
	closeTest(t, s)
	told, err := Verify(t.Context(), o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	check(told)
}
