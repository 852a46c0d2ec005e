//go:build unix

package storage

import (
	"io/fs"
	"syscall"
)

// allocated is what a file or folder takes on the disk, in bytes.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512 // of st_blocks, whatever the file system's own are
	}
	return info.Size()
}

// unlinked reports whether an open file has no name any more.
func unlinked(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink > 0 {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}, true //nolint:unconvert // of other widths elsewhere
}
