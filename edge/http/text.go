package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"unicode/utf8"
)

// errNotUTF8 stands for bytes that encoding/json would replace in silence.
var errNotUTF8 = errors.New(`it is not UTF-8 (RFC 8259, 8.1); bytes that are no text are sent as {"base64": "…"}`)

// text refuses what is not UTF-8.
type text struct {
	r    io.Reader
	part [utf8.UTFMax]byte // a character of which the rest is to come
	have int
}

// Read implements io.Reader.
func (t *text) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if !t.takes(p[:n]) || errors.Is(err, io.EOF) && t.have > 0 {
		return 0, errNotUTF8
	}
	return n, err
}

func (t *text) takes(b []byte) bool {
	for t.have > 0 && len(b) > 0 {
		t.part[t.have] = b[0]
		t.have, b = t.have+1, b[1:]
		if utf8.FullRune(t.part[:t.have]) {
			if r, size := utf8.DecodeRune(t.part[:t.have]); r == utf8.RuneError && size < 2 {
				return false
			}
			t.have = 0
		}
	}
	end := len(b)
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if tail := b[len(b)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				end = len(b) - back
				t.have = copy(t.part[:], tail)
			}
			break
		}
	}
	return utf8.Valid(b[:end])
}

// wrongJSON says what is wrong with a body in the words of JSON instead of Go's.
func wrongJSON(err error) error {
	if err == nil {
		return nil
	}
	if bad, ok := errors.AsType[*requestError](err); ok { // of body.Read
		return &requestError{bad.status, fmt.Errorf("request body: %w", bad.err)}
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return badRequest("request body: want %s, not %s", jsonKind(wrong.Type), wrong.Value)
		}
		return badRequest("request body: %s: want %s, not %s", wrong.Field, jsonKind(wrong.Type), wrong.Value)
	}
	switch {
	case errors.Is(err, io.EOF):
		return badRequest("request body: it is empty; want JSON, as /openapi.json describes it")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("request body: it ends too early")
	}
	return badRequest("request body: %w", err)
}

// cutOff is wrongJSON for what stands in the middle.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return wrongJSON(err)
}

func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number (" + t.Kind().String() + ")"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	default:
		return "an object"
	}
}

// decoder reads a JSON body of at most limit bytes.
func decoder(w http.ResponseWriter, r *http.Request, limit int64) *json.Decoder {
	return json.NewDecoder(&text{r: http.MaxBytesReader(w, r.Body, limit)})
}

// ended reports what stands behind a body's JSON value.
func ended(d *json.Decoder) error {
	switch _, err := d.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.As(err, new(*json.SyntaxError)):
		return wrongJSON(err)
	}
	return badRequest("request body: something follows the JSON value")
}

// read decodes a JSON body and refuses unknown fields: a misspelt one would be ignored in silence.
func read(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	d := decoder(w, r, limit)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return wrongJSON(err)
	}
	return ended(d)
}

// readRecords decodes {"records": […]} one record at a time, so that many small ones cost no more than they may; strict refuses
// other fields.
func readRecords[T any](w http.ResponseWriter, r *http.Request, strict bool) (list []T, err error) {
	d := decoder(w, r, maxRecords)
	if strict {
		d.DisallowUnknownFields()
	}
	open, err := d.Token()
	if err != nil {
		return nil, wrongJSON(err)
	}
	if open != json.Delim('{') {
		return nil, badRequest(`request body: want an object {"records": […]}`)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, cutOff(err)
		}
		if name != "records" {
			if strict {
				return nil, badRequest("request body: json: unknown field %q", name)
			}
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, cutOff(err)
			}
			continue
		}
		if list != nil {
			return nil, badRequest("request body: records is there twice")
		}
		if list, err = recordList[T](d); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, cutOff(err)
	}
	if err := ended(d); err != nil {
		return nil, err
	}
	return list, nil
}

func recordList[T any](d *json.Decoder) ([]T, error) {
	open, err := d.Token()
	if err != nil {
		return nil, cutOff(err)
	}
	if open == nil {
		return nil, nil
	}
	if open != json.Delim('[') {
		return nil, badRequest("request body: records: want an array")
	}
	list := []T{}
	for d.More() {
		if len(list) == maxRecordCount {
			return nil, &requestError{http.StatusRequestEntityTooLarge, fmt.Errorf("request body: more than %d records: send them in several requests", maxRecordCount)}
		}
		var one T
		if err := d.Decode(&one); err != nil {
			bad, _ := errors.AsType[*requestError](cutOff(err))
			return nil, &requestError{bad.status, fmt.Errorf("record %d: %w", len(list), bad.err)}
		}
		list = append(list, one)
	}
	if _, err := d.Token(); err != nil {
		return nil, cutOff(err)
	}
	return list, nil
}
