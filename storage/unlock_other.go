//go:build !unix || solaris || aix

package storage

import "os"

// unlockFile does nothing: closing the file is all that there is.
func unlockFile(*os.File) {}
