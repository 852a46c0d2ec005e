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
