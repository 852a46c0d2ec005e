//go:build !unix

package storage

import "io/fs"

// allocated is a file's length, where nothing tells what it takes.
func allocated(info fs.FileInfo) int64 { return info.Size() }

// unlinked: elsewhere a file that is open keeps its name.
func unlinked(fs.FileInfo) (fileID, bool) { return fileID{}, false }
