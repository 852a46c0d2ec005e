package main

import (
	"fmt"
	"math/rand/v2"
)

// telemetry appends a JSON reading of exactly size bytes (at least 16), different for every n.
func telemetry(b []byte, device, n, size int, rnd *rand.Rand) []byte {
	start := len(b)
	b = fmt.Appendf(b, `{"device":"dev-%05d","seq":%d,"ts":%d,"temperature":%.2f,"humidity":%.1f,"pressure":%.2f,"vibration":[%.3f,%.3f,%.3f],"state":"running","unit":"line-%d","note":"`,
		device, n, 1790000000000+int64(n)*100, 20+5*rnd.Float64(), 40+20*rnd.Float64(), 1000+20*rnd.Float64(),
		rnd.Float64(), rnd.Float64(), rnd.Float64(), device%10)
	for len(b)-start < size {
		b = append(b, '.')
	}
	b = b[:start+size]
	copy(b[start+size-2:], `"}`)
	return b
}
