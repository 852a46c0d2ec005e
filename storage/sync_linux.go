package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync leaves out the file's times: journal files never change their size, so the data is all that must be there.
func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writeOut writes a range of the file to the disk and waits for it, but not for the disk's cache nor for the file's metadata: a sync must
// follow. Where the file system cannot, it leaves all to that.
func writeOut(f *os.File, off, n int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		err := unix.SyncFileRange(int(f.Fd()), off, n, all)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ESPIPE):
			return nil
		default:
			return err
		}
	}
}
