package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"rivulet/plugins/plugintest"
)

// guests are built once for all tests of this binary.
var guests plugintest.Builder

const modes = "testdata/guests/modes"

// lines collects what a guest logs.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(stderr bool, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprint(stderr, " ", line))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func TestGoGuest(t *testing.T) {
	h := newHost(t, Options{CacheDir: compiled})
	var said lines
	a := attach(t, h, guests.Go(t, modes), AttachOptions{Input: "in", Outputs: []string{"in", "alerts"}, Log: said.add, Env: map[string]string{"MIN": "3"}})
	values := []string{"pass", "drop", "twice", "to alerts", "upper abc", "clock", "sleep", "say hello"}
	in := records(len(values), func(i int) string { return values[i] })
	out := process(t, a, in)
	want := `0 pass
2 twice
2 twice
3 >alerts to alerts
4 ABC
5 2023-11-14T22:13:20.005Z 2023-11-14T22:13:20.005Z
6 sleep
7 say hello
`
	if got := render(out); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if v, ok := out.Results[4].Payload.Header("by"); !ok || string(v) != "modes" {
		t.Errorf("header %q", v)
	}
	if &out.Results[0].Payload[0] != &in[0].Payload[0] {
		t.Error("what passed unchanged was copied")
	}
	if got := said.String(); got != "true ready for in alerts\nfalse hello" {
		t.Errorf("it said %q", got)
	}
	t.Logf("%+v", a.Stats())
}

func TestGoGuestFailures(t *testing.T) {
	h := newHost(t, Options{CacheDir: compiled})
	for _, tt := range []struct {
		value, message string
		cause          error
	}{
		{"panic at the disco", "panic: at the disco", ErrTrap},
		{"error nope", "no: nope", ErrTrap},
		{"exit", "exit with status 3", ErrTrap},
		{"loop", "CPU budget", ErrFuel},
		{"alloc", "16777216 bytes", ErrMemory},
		{"recurse 100000000", "recurses", ErrStack},
		{"to nowhere", "errno: -3", ErrTrap},
	} {
		t.Run(tt.value, func(t *testing.T) {
			a := attach(t, h, guests.Go(t, modes), AttachOptions{Log: func(bool, string) {}})
			values := []string{"a", "b", tt.value, "c"}
			out := process(t, a, records(4, func(i int) string { return values[i] }))
			t.Log(a.Stats().LastError)
			if len(out.Results) != 4 || out.Results[2].Kind != Dead {
				t.Fatalf("got %s", render(out))
			}
			for _, i := range []int{0, 1, 3} {
				if r := out.Results[i]; r.Kind != Emitted || string(r.Payload.Value()) != values[i] {
					t.Errorf("got %s", render(out))
				}
			}
			if h.Engine() == engineInterpreter && errors.Is(out.Results[2].Err, ErrFuel) {
				return // it is not fast enough for the other limits
			}
			if err := out.Results[2].Err; !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got %v, want %v with %q", err, tt.cause, tt.message)
			}
		})
	}
}

func TestGoGuestFailsToStart(t *testing.T) {
	h := newHost(t, Options{CacheDir: compiled})
	m, err := h.Compile(context.Background(), guests.Go(t, modes))
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Attach(context.Background(), m, AttachOptions{Name: "p", Input: "in", Env: map[string]string{"FAIL": "the test"}, Log: func(bool, string) {}})
	if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "told to fail by the test") {
		t.Errorf("got %v", err)
	}
}

func benchmark(b *testing.B, wasm []byte, n int) {
	h := newHost(b, Options{CacheDir: compiled})
	a := attach(b, h, wasm, AttachOptions{})
	in := records(n, func(i int) string {
		return fmt.Sprintf(`{"device":"sensor-%04d","temp":%d.5,"hum":40,"note":%q}`, i, 15+i%20, strings.Repeat("x", 140))
	})
	var out Output
	b.ReportAllocs()
	run := func() {
		out.Reset()
		if err := a.Process(context.Background(), 0, in, &out); err != nil {
			b.Fatal(err)
		}
	}
	run()
	b.ResetTimer()
	for b.Loop() {
		run()
	}
	s := a.Stats()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
	b.ReportMetric(float64(s.FuelUsed)/float64(s.In), "fuel/record")
	b.ReportMetric(float64(s.FuelUsed)/float64(s.Nanos), "fuel/ns")
}

func benchmarkSizes(b *testing.B, wasm func() []byte) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) { benchmark(b, wasm(), n) })
	}
}

func BenchmarkGoIdentity(b *testing.B) {
	benchmarkSizes(b, func() []byte { return guests.Go(b, "../examples/plugins/go/identity") })
}

func BenchmarkGoDropCold(b *testing.B) {
	benchmarkSizes(b, func() []byte { return guests.Go(b, "../examples/plugins/go/drop-cold") })
}
