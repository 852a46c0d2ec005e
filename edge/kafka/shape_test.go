package kafka

import (
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
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
// byte, in every version up to the newest that is served.
func TestShapesAreTheCodecs(t *testing.T) {
	for _, a := range newAPITable() {
		if a == nil {
			continue
		}
		for v := int16(0); v <= a.key.Request().MaxVersion(); v++ {
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
				fields, ok := a.shapeOf(v)
				if !ok {
					t.Errorf("%s version %d has no shape", a.key.Name(), v)
					continue
				}
				body := req.AppendTo(nil)
				w := walker{Reader: kbin.Reader{Src: body}, flexible: req.IsFlexible(), items: maxItems}
				w.walk(fields)
				if !w.Ok() || len(w.Src) != 0 {
					t.Errorf("%s version %d, full %v: %d of %d bytes are left, ok %v", a.key.Name(), v, full, len(w.Src), len(body), w.Ok())
				}
				for cut := range body {
					if checkShape(body[:cut], fields, req.IsFlexible()) == nil {
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
	if err := checkShape(append(binary.AppendUvarint(nil, 1<<31), make([]byte, 100)...), fields, true); !errors.Is(err, errShape) {
		t.Errorf("an array of 2^31 topics: %v", err)
	}
}

// TestArrayCountIsNotBelieved: arrays of as many elements as there are bytes, which the codec made gigabytes of before it looked at the
// first, and arrays that hold what they state, of which the answer alone would be gigabytes.
func TestArrayCountIsNotBelieved(t *testing.T) {
	const size = 4 << 20
	produce := binary.BigEndian.AppendUint16(nil, 0xffff)        // no transactional id
	produce = append(produce, 0xff, 0xff, 0, 0, 0, 0)            // acks, timeout
	topic := append(append([]byte(nil), produce...), 0, 0, 0, 1) // one topic
	topic = append(topic, 0, 1, 't')
	for name, test := range map[string]struct {
		key     kmsg.Key
		version int16
		head    []byte // up to the count
		count   int
		want    error
	}{
		"topics of Produce":          {kmsg.Produce, 3, produce, size, errItems},
		"all topics of Produce":      {kmsg.Produce, 3, produce, size / 6, errItems},
		"partitions of Produce":      {kmsg.Produce, 3, topic, size, errItems},
		"all partitions of Produce":  {kmsg.Produce, 3, topic, size / 8, errItems},
		"topics of Metadata":         {kmsg.Metadata, 1, nil, size, errItems},
		"all topics of Metadata":     {kmsg.Metadata, 1, nil, size / 2, errItems},
		"more topics than bytes":     {kmsg.Metadata, 1, nil, size + 1, errShape},
		"some more topics than fit":  {kmsg.Metadata, 1, nil, maxItems, nil},
		"configuration of a topic":   {kmsg.DescribeConfigs, 1, nil, size / 7, errItems},
		"a negative count of topics": {kmsg.Metadata, 1, nil, -2, nil},
	} {
		body := binary.BigEndian.AppendUint32(append([]byte(nil), test.head...), uint32(int32(test.count)))
		body = append(body, make([]byte, size)...)
		a := newAPITable().find(test.key.Int16())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := a.parseRequest(header{key: test.key.Int16(), version: test.version}, body)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 4*size {
			t.Errorf("%s: %d MiB for a request of %d MiB", name, got>>20, len(body)>>20)
		}
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
