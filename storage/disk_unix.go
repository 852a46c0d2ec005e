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
