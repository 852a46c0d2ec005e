package http

import (
	"bytes"
	"os"
	"strconv"
)

// residentBytes is what the kernel says that this process holds in memory; 0: unknown.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(data)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(f[1]), 10, 64) // 0 is unknown
	return pages * int64(os.Getpagesize())
}
