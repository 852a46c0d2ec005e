package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	a "rivulet/plugins/asm"
)

// hostile is a guest that passes records on, but for those whose value begins with '!': for them it runs code.
func hostile(m *a.Redpanda, code ...[]byte) []byte {
	// Payloads of records() are: key length, key "kN…", value length, value. valueAt skips to the value's first byte; all
	// lengths of the test are single bytes but for long values, whose length has two.
	const at = a.Local0
	return m.Finish(6,
		a.I32Const(a.RecordBuffer), a.I32Load8U(0), a.I32Const(1), a.I32ShrU, // key length
		a.I32Const(a.RecordBuffer+2), a.I32Add, a.LocalSet(at),
		a.LocalGet(at), a.I32Load8U(0), a.I32Const('!'), a.I32Eq, a.If,
		a.Join(code...),
		a.End,
		m.Emit(a.I32Const(a.RecordBuffer), a.LocalGet(a.RecordSize)),
	)
}

// spin is an endless loop.
var spin = a.Join(a.Loop, a.Br(0), a.End)

func TestFailures(t *testing.T) {
	h := newHost(t, Options{MemoryLimit: 4 << 20, RecordTime: 20 * time.Millisecond})
	const rec = a.RecordBuffer
	emit := func(m *a.Redpanda, at, n int32) []byte { return m.Emit(a.I32Const(at), a.I32Const(n)) }
	tests := []struct {
		name  string
		cause error
		text  string
		guest func(m *a.Redpanda) []byte
	}{
		{"trap", ErrTrap, "unreachable", func(m *a.Redpanda) []byte { return hostile(m, a.Unreachable) }},
		{"endless loop", ErrFuel, "20ms", func(m *a.Redpanda) []byte { return hostile(m, spin) }},
		{"endless fill", ErrFuel, "20ms", func(m *a.Redpanda) []byte {
			return hostile(m, a.Loop, a.I32Const(1024), a.I32Const(0), a.I32Const(60000), a.MemoryFill, a.Br(0), a.End)
		}},
		{"endless host calls", ErrFuel, "", func(m *a.Redpanda) []byte {
			return hostile(m, a.Loop, a.I32Const(0), a.I32Const(2), a.Call(m.WriteRecord), a.Drop, a.Br(0), a.End)
		}},
		{"endless recursion", ErrStack, "", func(m *a.Redpanda) []byte {
			self := m.NextFunc()
			m.Func(a.Sig(a.I32).To(a.I32), nil, a.LocalGet(0), a.I32Const(1), a.I32Add, a.Call(self), a.I32Const(3), a.I32Add)
			return hostile(m, a.I32Const(0), a.Call(self), a.Drop)
		}},
		{"recursion through a table", ErrStack, "", func(m *a.Redpanda) []byte {
			m.Table(1)
			self := m.NextFunc()
			sig := a.Sig(a.I32).To(a.I32)
			m.Func(sig, nil, a.LocalGet(0), a.I32Const(0), a.CallIndirect(m.TypeIndex(sig)), a.I32Const(3), a.I32Add)
			m.Elements(self)
			return hostile(m, a.I32Const(0), a.Call(self), a.Drop)
		}},
		{"memory bomb", ErrMemory, "4194304", func(m *a.Redpanda) []byte {
			return hostile(m, a.Loop, a.I32Const(1), a.MemoryGrow, a.I32Const(-1), a.I32Ne, a.BrIf(0), a.End, a.Unreachable)
		}},
		{"huge grow", ErrMemory, "4194304", func(m *a.Redpanda) []byte {
			return hostile(m, a.I32Const(60000), a.MemoryGrow, a.I32Const(-1), a.I32Eq, a.If, a.Unreachable, a.End)
		}},
		{"return from _start", ErrTrap, "_start returned", func(m *a.Redpanda) []byte { return hostile(m, a.Return) }},
		{"exit", ErrTrap, "exit with status 7", func(m *a.Redpanda) []byte {
			exit := m.Import(moduleWASI, "proc_exit", a.Sig(a.I32))
			return hostile(m, a.I32Const(7), a.Call(exit))
		}},
		{"load outside", ErrTrap, "out of bounds", func(m *a.Redpanda) []byte {
			return hostile(m, a.I32Const(-8), a.I32Load(0), a.Drop)
		}},
		{"write from outside", ErrTrap, "pointer outside", func(m *a.Redpanda) []byte { return hostile(m, emit(m, -100, 10)) }},
		{"write across the end", ErrTrap, "pointer outside", func(m *a.Redpanda) []byte { return hostile(m, emit(m, rec, 100<<20)) }},
		{"options outside", ErrTrap, "pointer outside", func(m *a.Redpanda) []byte {
			return hostile(m, a.I32Const(rec), a.I32Const(1), a.I32Const(-1), a.I32Const(9), a.Call(m.WriteWithOptions), a.Drop)
		}},
		{"record to outside", ErrTrap, "pointer outside", func(m *a.Redpanda) []byte {
			read := m.Import(moduleTransform, "read_next_record", a.Sig(a.I32, a.I32, a.I32, a.I32, a.I32).To(a.I32))
			return hostile(m, bytes.Repeat(a.I32Const(-1), 5), a.Call(read), a.Drop)
		}},
		{"output bomb", ErrOutput, "bytes in", func(m *a.Redpanda) []byte {
			// a record without key, value of 40000 bytes, no headers, again and again
			const at = 70000
			return hostile(m,
				a.I32Const(at), a.I32Const(1), a.I32Store8(0),
				a.I32Const(at+1), a.I32Const(0x80|40000<<1&0x7f), a.I32Store8(0),
				a.I32Const(at+2), a.I32Const(0x80|40000<<1>>7&0x7f), a.I32Store8(0),
				a.I32Const(at+3), a.I32Const(40000<<1>>14), a.I32Store8(0),
				a.Loop, emit(m, at, 40005), a.Br(0), a.End)
		}},
		{"many outputs", ErrOutput, "4097 records", func(m *a.Redpanda) []byte {
			return hostile(m, a.Loop, m.Emit(a.I32Const(rec), a.LocalGet(a.RecordSize)), a.Br(0), a.End)
		}},
		{"division", ErrTrap, "divide by zero", func(m *a.Redpanda) []byte {
			return hostile(m, a.I32Const(1), a.I32Const(0), []byte{0x6d}, a.Drop)
		}},
		{"endless random", ErrFuel, "", func(m *a.Redpanda) []byte {
			random := m.Import(moduleWASI, "random_get", a.Sig(a.I32, a.I32).To(a.I32))
			return hostile(m, a.Loop, a.I32Const(1024), a.I32Const(60000), a.Call(random), a.Drop, a.Br(0), a.End)
		}},
		{"endless poll", ErrFuel, "", func(m *a.Redpanda) []byte {
			poll := m.Import(moduleWASI, "poll_oneoff", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
			return hostile(m, a.Loop, a.I32Const(1024), a.I32Const(rec), a.I32Const(100), a.I32Const(rec-8), a.Call(poll), a.Drop, a.Br(0), a.End)
		}},
		{"stderr flood", ErrFuel, "", func(m *a.Redpanda) []byte {
			write := m.Import(moduleWASI, "fd_write", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
			m.Data(a.Free, []byte{8, 4, 0, 0, 30, 0, 0, 0}) // iovec: at Free+8, 30 bytes
			m.Data(a.Free+8, []byte("flood\nflood\nflood\nflood\nflood\n"))
			return hostile(m, a.Loop, a.I32Const(2), a.I32Const(a.Free), a.I32Const(1), a.I32Const(512), a.Call(write), a.Drop, a.Br(0), a.End)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var said lines
			att := attach(t, h, tt.guest(a.NewRedpanda()), AttachOptions{Log: said.add})
			defer closeAttachment(t, att)
			for round := range 3 { // the instance is fresh, then used
				in := records(100, func(i int) string {
					if i == 37 {
						return "!poison"
					}
					return fmt.Sprint("v", i)
				})
				start := time.Now()
				out := process(t, att, in)
				if took := time.Since(start); took > time.Minute {
					t.Errorf("took %v", took)
				}
				if len(out.Results) != 100 {
					t.Fatalf("round %d: %d results: %s", round, len(out.Results), render(out))
				}
				for i, r := range out.Results {
					want := Emitted
					if i == 37 {
						want = Dead
					}
					if r.Source != i || r.Kind != want || string(r.Payload) != string(in[i].Payload) {
						t.Fatalf("round %d, result %d: %+v", round, i, r)
					}
				}
				if err := out.Results[37].Err; !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("round %d: got %v, want %v with %q", round, err, tt.cause, tt.text)
				}
			}
			if s := att.Stats(); s.In != 300 || s.Out != 297 || s.Dead != 3 || s.Errors != 3 || s.State != "running" {
				t.Errorf("%+v", s)
			}
			if n := len(said.all); n > 4*linesPerSecond { // the test takes a few seconds at most
				t.Errorf("%d lines", n)
			}
		})
	}
}

// A guest that fails on every batch before it has read a record fails on one record after the other.
func TestHeaderOutside(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	header := m.Import(moduleTransform, "read_batch_header", a.Sig(bytes.Repeat([]byte{a.I32}, 10)...).To(a.I32))
	m.Memory(1)
	m.ExportFunc("_start", m.Func(a.Sig(), nil, a.Loop, bytes.Repeat(a.I32Const(-4), 10), a.Call(header), a.Drop, a.Br(0), a.End))
	att := attach(t, h, m.Bytes(), AttachOptions{})
	out := process(t, att, records(30, func(int) string { return "v" }))
	if len(out.Results) != 30 || !strings.Contains(out.Results[0].Err.Error(), "pointer outside") || !errors.Is(out.Results[29].Err, ErrSuspended) {
		t.Errorf("got %s", render(out))
	}
	if s := att.Stats(); s.State != "suspended" || s.Errors != breakerFailures {
		t.Errorf("%+v", s)
	}
}

// What a guest leaves unread is dropped; that is the ABI's rule.
func TestParkEarly(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	header := m.Import(moduleTransform, "read_batch_header", a.Sig(bytes.Repeat([]byte{a.I32}, 10)...).To(a.I32))
	att := attach(t, h, hostile(m, bytes.Repeat(a.I32Const(512), 10), a.Call(header), a.Drop, a.Return), AttachOptions{})
	out := process(t, att, records(5, func(i int) string { return []string{"a", "b", "!", "d", "e"}[i] }))
	if got := render(out); got != "0 a\n1 b\n" {
		t.Errorf("got %s", got)
	}
	if s := att.Stats(); s.Dropped != 3 || s.State != "running" {
		t.Errorf("%+v", s)
	}
}

func closeAttachment(t testing.TB, a *Attachment) {
	t.Helper()
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// A guest that loops must not hold up the garbage collector, which stops the world.
func TestGarbageCollectionDuringLoop(t *testing.T) {
	h := newHost(t, Options{RecordTime: 300 * time.Millisecond})
	att := attach(t, h, hostile(a.NewRedpanda(), spin), AttachOptions{})
	started := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		close(started)
		process(t, att, records(1, func(int) string { return "!" }))
	}()
	<-started
	worst, n := time.Duration(0), 0
	for {
		select {
		case <-done:
			t.Logf("%d collections while it looped, the longest took %v", n, worst)
			if n < 3 {
				t.Errorf("only %d collections", n)
			}
			return
		default:
		}
		start := time.Now()
		runtime.GC()
		worst = max(worst, time.Since(start))
		n++
	}
}
