package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// memoryOfMachine is what this process may use: the machine's, or less where a control group says so; 0: unknown.
func memoryOfMachine() int64 {
	var have int64
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range bytes.Lines(data) {
			if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "MemTotal:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64) // 0 is unknown
				have = kib << 10
			}
		}
	}
	data, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return have
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || limit <= 0 { // "max"
		return have
	}
	if have == 0 {
		return limit
	}
	return min(have, limit)
}
