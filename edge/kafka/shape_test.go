package kafka

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field that a value has to something, arrays to two elements.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).CanSet() && name != "Version" && name != "UnknownTags" {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8:
		v.SetUint(7)
	}
}

// TestShapesAreTheCodecs holds every shape against the codec: a request with every field set must be walked to its last
// byte, in every flexible version that is served.
func TestShapesAreTheCodecs(t *testing.T) {
	for _, a := range newAPITable() {
		if a == nil {
			continue
		}
		for v := a.min; v <= a.key.Request().MaxVersion(); v++ {
			if _, ok := a.shapeOf(v); !ok && v > a.max {
				continue
			}
			for _, full := range []bool{false, true} {
				req := a.key.Request()
				if d, ok := req.(interface{ Default() }); ok {
					d.Default()
				}
				if full {
					fill(reflect.ValueOf(req).Elem())
				}
				req.SetVersion(v)
				if !req.IsFlexible() {
					continue
				}
				fields, ok := a.shapeOf(v)
				if !ok {
					t.Errorf("%s version %d has no shape", a.key.Name(), v)
					continue
				}
				body := req.AppendTo(nil)
				r := kbin.Reader{Src: body}
				walkShape(&r, fields)
				if !r.Ok() || len(r.Src) != 0 {
					t.Errorf("%s version %d, full %v: %d of %d bytes are left, ok %v", a.key.Name(), v, full, len(r.Src), len(body), r.Ok())
				}
				for cut := range body {
					if checkShape(body[:cut], fields) == nil {
						t.Errorf("%s version %d: %d of %d bytes are accepted", a.key.Name(), v, cut, len(body))
					}
				}
			}
		}
	}
}

// TestTagCountIsNotBelieved is the request of few bytes that kept the codec busy for minutes.
func TestTagCountIsNotBelieved(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<32-1)
	for _, a := range newAPITable() {
		if a == nil {
			continue
		}
		for v := a.min; v <= a.max; v++ {
			req := a.key.Request()
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			req.SetVersion(v)
			if !req.IsFlexible() {
				continue
			}
			body := req.AppendTo(nil)
			body = append(body[:len(body)-1], huge...) // the last byte is the number of tagged fields
			h := header{key: a.key.Int16(), version: v}
			if _, err := a.parseRequest(h, append([]byte{0}, body...)); !errors.Is(err, errShape) {
				t.Errorf("%s version %d: body: %v", a.key.Name(), v, err)
			}
			if _, err := a.parseRequest(h, huge); err == nil {
				t.Errorf("%s version %d: header is accepted", a.key.Name(), v)
			}
		}
	}
	// Arrays, too.
	fields, _ := newAPITable().find(kmsg.Metadata.Int16()).shapeOf(12)
	if err := checkShape(append(binary.AppendUvarint(nil, 1<<31), make([]byte, 100)...), fields); !errors.Is(err, errShape) {
		t.Errorf("an array of 2^31 topics: %v", err)
	}
}

func BenchmarkParseProduce16KiB(b *testing.B) {
	a := newAPITable().find(0)
	body := encodeRequest(produceRequest("telemetry", 0, -1, sizedBatch(16<<10)), 9, 1)
	b.ReportAllocs()
	for b.Loop() {
		h, rest, err := parseHeader(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.parseRequest(h, rest); err != nil {
			b.Fatal(err)
		}
	}
}
