package http

import (
	"encoding/base64"
	"encoding/json"
	"errors"
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

// UnmarshalJSON takes a string, {"base64": "…"} or null.
func (d *Data) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err == nil {
		*d = nil
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
