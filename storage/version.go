package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// formatVersion is the number in the file VERSION. A store with a higher one was written by a newer program.
//
//	1  directories of version 1, one class
//	2  directories of version 2, classes, meta.copy.db, damage in the key-value space
//	3  directories of version 3
//
// What a store of an older format holds is read as it is, and rewritten as files are copied forward, so an upgrade is a new number: from
// then on an older program refuses the store, which it would misread. Open does it. Upgrade is for who wants to go back.
const formatVersion = 3

const versionFile = "VERSION"

// errVersion says that VERSION is not a number.
var errVersion = errors.New("no version number")

// readVersion reads VERSION.
func readVersion(dir string) (int, error) {
	path := filepath.Join(dir, versionFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 || len(data) > 16 {
		return 0, fmt.Errorf("read %s: %w: %.20q", path, errVersion, text)
	}
	if version > formatVersion {
		return version, fmt.Errorf("%w: format %d, this program knows %d", ErrNewerFormat, version, formatVersion)
	}
	return version, nil
}

// ErrNoStore says that a directory holds no store.
var ErrNoStore = errors.New("no store")

// storeIn sees whether dir holds a store that is whole, for those who read it without opening it. Errors: ErrNoStore, ErrRestoring.
func storeIn(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, restoring)); err == nil {
		return fmt.Errorf("%s: %w", dir, ErrRestoring)
	}
	for _, name := range []string{versionFile, "meta.db"} { // one of the two may be lost
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w in %s", ErrNoStore, dir)
}

// versionLost reports whether VERSION is damaged or missing: what else is there says its own format.
func versionLost(err error) bool { return errors.Is(err, errVersion) || errors.Is(err, os.ErrNotExist) }

// checkVersion reads VERSION, and writes it into a store that is new or of an older format. A file that holds no number is made
// anew: all others say their own formats.
func (s *Store) checkVersion() error {
	if _, err := os.Stat(filepath.Join(s.o.Dir, restoring)); err == nil && !s.o.restoring {
		return ErrRestoring
	}
	version, err := readVersion(s.o.Dir)
	path := filepath.Join(s.o.Dir, versionFile)
	switch {
	case errors.Is(err, errVersion) || errors.Is(err, os.ErrNotExist) && s.hasFiles():
		s.problem(Problem{File: path, Where: "file", Detail: fmt.Sprintf("damaged or missing, and written again: %v", err)})
		s.o.Log.Error("VERSION is damaged or missing, and written again", "err", err)
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case version == formatVersion:
		s.o.versioned = true
		return nil
	default:
		s.o.versioned = true
		s.o.Log.Warn("the store's format is brought up to date; older programs refuse it from now on", "from", version, "to", formatVersion)
	}
	return writeFileSynced(path, []byte(strconv.Itoa(formatVersion)+"\n"))
}

// hasFiles reports whether there is a store beside the missing VERSION.
func (s *Store) hasFiles() bool {
	_, err := os.Stat(filepath.Join(s.o.Dir, "meta.db"))
	return err == nil
}

// Format is the format of the store in dir, and the one that this program writes. Errors: ErrNewerFormat, those of the disk.
func Format(dir string) (version, current int, err error) {
	version, err = readVersion(dir)
	return version, formatVersion, err
}

// Upgrade brings a closed store up to date. Who wants to be able to go back makes a backup first (BackupClosed).
// Errors: ErrLocked, ErrNewerFormat, those of Open.
func Upgrade(ctx context.Context, o Options) error {
	if _, err := readVersion(o.Dir); err != nil && !errors.Is(err, errVersion) {
		return fmt.Errorf("upgrade: %w", err)
	}
	o.ScrubRate = -1
	s, err := Open(ctx, o)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	return nil
}

// VerifyBackup reads a backup to its end and changes nothing. progress may be nil. Errors: ErrBackup, ErrNewerFormat.
func VerifyBackup(r io.Reader, progress Progress) (Manifest, error) {
	c := backupCheck{progress: progress}
	err := readBackup(r, &c)
	return c.m, err
}

// backupCheck is a sink that keeps nothing.
type backupCheck struct {
	m        Manifest
	done     int64
	progress Progress
}

func (c *backupCheck) manifest(m Manifest) error { c.m = m; return nil }

func (c *backupCheck) begin(string, int64) error { return nil }

func (c *backupCheck) data(p []byte) error {
	c.done += int64(len(p))
	if c.progress != nil {
		c.progress(c.done, c.m.Bytes)
	}
	return nil
}
