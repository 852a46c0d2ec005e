//go:build unix && !solaris && !aix

package storage

import (
	"os"
	"syscall"
)

// unlockFile gives up the lock that bbolt took.
func unlockFile(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
