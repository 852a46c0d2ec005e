package plugins

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rivulet/examples/plugins/builtin"
	"rivulet/storage/batch"
)

func newHost(t testing.TB, o Options) *Host {
	t.Helper()
	h, err := NewHost(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func attach(t testing.TB, h *Host, wasm []byte, o AttachOptions) *Attachment {
	t.Helper()
	m, err := h.Compile(context.Background(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	if o.Name == "" {
		o.Name = "test"
	}
	if o.Input == "" {
		o.Input = "in"
	}
	a, err := h.Attach(context.Background(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// records makes n records with keys k0, k1 … and what value returns.
func records(n int, value func(i int) string) []batch.Record {
	in := make([]batch.Record, n)
	for i := range in {
		in[i] = batch.Record{
			Timestamp: 1_700_000_000_000 + int64(i),
			Payload:   batch.AppendPayload(nil, fmt.Appendf(nil, "k%d", i), []byte(value(i)), nil),
		}
	}
	return in
}

// render is one line for each result: source, what it is, topic, value.
func render(out *Output) string {
	var b strings.Builder
	for _, r := range out.Results {
		fmt.Fprintf(&b, "%d", r.Source)
		switch r.Kind {
		case Dead:
			fmt.Fprintf(&b, " dead (%v)", r.Err)
		case Rejected:
			fmt.Fprintf(&b, " rejected (%v)", r.Err)
		}
		if r.Topic != "" {
			fmt.Fprintf(&b, " >%s", r.Topic)
		}
		fmt.Fprintf(&b, " %s\n", r.Payload.Value())
	}
	return b.String()
}

func process(t testing.TB, a *Attachment, in []batch.Record) *Output {
	t.Helper()
	out := &Output{}
	if err := a.Process(context.Background(), 0, in, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestIdentity(t *testing.T) {
	h := newHost(t, Options{})
	t.Log(h.Engine(), h.sliceFuel*4, "units/ms")
	a := attach(t, h, builtin.Identity(), AttachOptions{})
	for range 3 {
		in := records(5, func(i int) string { return fmt.Sprint("v", i) })
		out := process(t, a, in)
		if len(out.Results) != 5 {
			t.Fatalf("got %s", render(out))
		}
		for i, r := range out.Results {
			if r.Source != i || r.Kind != Emitted || r.Topic != "" || string(r.Payload) != string(in[i].Payload) {
				t.Fatalf("got %s", render(out))
			}
		}
	}
	if s := a.Stats(); s.In != 15 || s.Out != 15 || s.FuelUsed == 0 || s.MemoryBytes != 2<<16 || s.State != "running" {
		t.Errorf("%+v", s)
	}
}

func TestDropCold(t *testing.T) {
	h := newHost(t, Options{})
	a := attach(t, h, builtin.DropCold(20), AttachOptions{})
	values := []string{
		`{"temp":21.5}`, `{"temp": 19.9}`, `{"temp":-30}`, `{"hum":3}`, `{"d":"x","temp":20,"y":1}`, `{"temp":7`, `{"temp"`, ``, `"temp":123456`,
	}
	out := process(t, a, records(len(values), func(i int) string { return values[i] }))
	want := `0 {"temp":21.5}
3 {"hum":3}
4 {"d":"x","temp":20,"y":1}
7 
8 "temp":123456
`
	if got := render(out); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if s := a.Stats(); s.In != 9 || s.Out != 5 || s.Dropped != 4 {
		t.Errorf("%+v", s)
	}
}
