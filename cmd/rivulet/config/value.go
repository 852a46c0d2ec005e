package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes: 512, 64KiB, 8GiB, 10MB.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	t, bytes := string(text), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(t, u.name); ok {
			t, bytes = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) || n*float64(bytes) >= math.MaxInt64 {
		return fmt.Errorf("%q is not a size; write a number and a unit, such as 64MiB or 8GiB", text)
	}
	*s = Size(n * float64(bytes))
	return nil
}

// MarshalText writes a size in the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Rate is bytes a second: 2MiB/s.
type Rate int64

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	t, ok := strings.CutSuffix(string(text), "/s")
	var s Size
	if !ok || s.UnmarshalText([]byte(t)) != nil {
		return fmt.Errorf("%q is not a rate; write a size a second, such as 2MiB/s", text)
	}
	*r = Rate(s)
	return nil
}

// MarshalText writes a rate.
func (r Rate) MarshalText() ([]byte, error) { return []byte(Size(r).String() + "/s"), nil }

// Duration is Go's, and days: 250ms, 1m30s, 7d.
type Duration time.Duration

// UnmarshalText reads a duration, which is never negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int64
		n, err = strconv.ParseInt(days, 10, 64)
		if n > math.MaxInt64/int64(24*time.Hour) {
			err = strconv.ErrRange
		}
		v = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 250ms, 5s, 1h30m or 7d", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
