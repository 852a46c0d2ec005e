package edge

import (
	"encoding/json"
	"math"
	"time"
)

// jsonTime reads a timestamp from a JSON value: a number of seconds or milliseconds since 1970 (told apart by size: below
// 1e11 they are seconds), or an RFC 3339 string. 0 means that there is
// none, or one before 1970.
func jsonTime(value []byte, path []string) int64 {
	raw := json.RawMessage(value)
	for _, name := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return 0
		}
		raw = object[name]
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return 0
	}
	switch v := v.(type) {
	case float64:
		if v < 0 || v > math.MaxInt64/2000 {
			return 0
		}
		if v < 1e11 {
			v *= 1000
		}
		return int64(v)
	case string:
		if t, err := time.Parse(time.RFC3339, v); err == nil {
			return max(0, t.UnixMilli())
		}
	}
	return 0
}
