package http

import (
	"encoding/json"
	"testing"
	"time"
)

// What a client writes into a query or a body is an error or something that has a meaning, never a panic.
func FuzzRequestParts(f *testing.F) {
	f.Add("-1h", "0:1,1:2", `{"value":{"base64":"/w=="}}`)
	f.Add("2026-01-02T03:04:05Z", "0:", `{"key":null}`)
	f.Add("9223372036854775808", "-1:5", `{"value":"\ud800"}`)
	f.Fuzz(func(t *testing.T, place, at, record string) {
		if p, err := ParsePlace(place, time.Unix(1e9, 0)); err == nil && p.Offset < -1 {
			t.Errorf("place %q is offset %d", place, p.Offset)
		}
		cursors, err := parseAt(at)
		if err == nil {
			for partition, offset := range cursors {
				if partition < 0 || offset < 0 {
					t.Errorf("at %q is %d:%d", at, partition, offset)
				}
			}
		}
		var rest RestRecord
		if json.Unmarshal([]byte(record), &rest) == nil {
			_, _ = rest.decode(true)
			_, _ = rest.decode(false)
		}
		var rec NewRecord
		if json.Unmarshal([]byte(record), &rec) != nil {
			return
		}
		text, err := json.Marshal(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		var back Data
		if err := json.Unmarshal(text, &back); err != nil || string(back) != string(rec.Value) || (back == nil) != (rec.Value == nil) {
			t.Errorf("%q is written as %s and read as %q, %v", rec.Value, text, back, err)
		}
	})
}
