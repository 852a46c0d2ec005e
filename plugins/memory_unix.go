//go:build unix

package plugins

import "golang.org/x/sys/unix"

// reserve maps zeroed memory outside the Go heap, where it would count towards the pace of garbage collection as if all
// of it were in use. Pages that are never touched take no room.
func reserve(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return b
}

func release(b []byte) { _ = unix.Munmap(b) } // it was mapped by us and is unmapped once
