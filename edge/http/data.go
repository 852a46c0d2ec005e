package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// Data is a record's bytes in JSON: a string when they are text, else {"base64": "…"}; null is no value at all.
type Data []byte

type encoded struct {
	Base64 string `json:"base64"`
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d Data) MarshalJSON() ([]byte, error) {
	switch {
	case d == nil:
		return []byte("null"), nil
	case utf8.Valid(d):
		return json.Marshal(string(d))
	}
	return json.Marshal(encoded{base64.StdEncoding.EncodeToString(d)})
}

// written reports whether U+FFFD stands in JSON text itself; else encoding/json put it in the place of something.
func written(b []byte) bool {
	return bytes.ContainsRune(b, utf8.RuneError) || bytes.Contains(bytes.ToLower(b), []byte(`\ufffd`))
}

// UnmarshalJSON takes a string, {"base64": "…"} or null.
func (d *Data) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err == nil {
		*d = nil
		if text != nil && strings.ContainsRune(*text, utf8.RuneError) && !written(b) {
			return errors.New(`a string holds half of a surrogate pair, which is no character; bytes that are no text are sent as {"base64": "…"}`)
		}
		if text != nil {
			*d = append(Data{}, *text...)
		}
		return nil
	}
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return errors.New(`want a string, {"base64": "…"} or null`)
	}
	raw, err := base64.StdEncoding.DecodeString(e.Base64)
	if err != nil {
		return err
	}
	*d = append(Data{}, raw...)
	return nil
}
