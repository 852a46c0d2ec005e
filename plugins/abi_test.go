package plugins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rivulet/examples/plugins/builtin"
	a "rivulet/plugins/asm"
)

// answers is a guest that replaces each record by one whose value is the 8 bytes that code leaves at Free.
func answers(m *a.Redpanda, code ...[]byte) []byte {
	m.Data(a.Free-2, []byte{1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // no key, value of 8 bytes, no headers
	return m.Finish(4, a.Join(code...), m.Emit(a.I32Const(a.Free-2), a.I32Const(11)))
}

// store puts the i32 that code leaves behind into the answer.
func store(code ...[]byte) []byte { return a.Join(a.I32Const(a.Free), a.Join(code...), a.I32Store(0)) }

func answer(t *testing.T, h *Host, o AttachOptions, wasm []byte) int32 {
	t.Helper()
	att := attach(t, h, wasm, o)
	defer closeAttachment(t, att)
	out := process(t, att, records(1, func(int) string { return "value" }))
	last := out.Results[len(out.Results)-1]
	v := last.Payload.Value()
	if last.Kind != Emitted || len(v) != 8 {
		t.Fatalf("got %s", render(out))
	}
	return int32(uint32(v[0]) | uint32(v[1])<<8 | uint32(v[2])<<16 | uint32(v[3])<<24)
}

func TestResultCodes(t *testing.T) {
	h := newHost(t, Options{})
	const at = 4096
	i32 := a.I32Const
	write := func(m *a.Redpanda, payload string) []byte {
		m.Data(at, []byte(payload))
		return a.Join(i32(at), i32(int32(len(payload))), a.Call(m.WriteRecord))
	}
	with := func(m *a.Redpanda, options string) []byte {
		m.Data(at, []byte(options))
		return a.Join(i32(a.RecordBuffer), a.LocalGet(a.RecordSize), i32(at), i32(int32(len(options))), a.Call(m.WriteWithOptions))
	}
	read := func(m *a.Redpanda, size int32) []byte {
		r := m.Import(moduleTransform, "read_next_record", a.Sig(a.I32, a.I32, a.I32, a.I32, a.I32).To(a.I32))
		return a.Join(i32(at), i32(at), i32(at), i32(at), i32(size), a.Call(r))
	}
	for _, tt := range []struct {
		name string
		code func(m *a.Redpanda) []byte
		want int32
	}{
		{"write", func(m *a.Redpanda) []byte { return write(m, "\x01\x01\x00") }, 3},
		{"write a header", func(m *a.Redpanda) []byte { return write(m, "\x01\x01\x02\x02h\x01") }, 6},
		{"write nothing", func(m *a.Redpanda) []byte { return write(m, "") }, codeInvalidBuffer},
		{"write cut", func(m *a.Redpanda) []byte { return write(m, "\x01\x01") }, codeInvalidBuffer},
		{"write a byte too many", func(m *a.Redpanda) []byte { return write(m, "\x01\x01\x00\x00") }, codeInvalidBuffer},
		{"write a length of -2", func(m *a.Redpanda) []byte { return write(m, "\x03\x01\x00") }, codeInvalidBuffer},
		{"write -1 headers", func(m *a.Redpanda) []byte { return write(m, "\x01\x01\x01") }, codeInvalidBuffer},
		{"write 10^9 headers", func(m *a.Redpanda) []byte { return write(m, "\x01\x01\x80\x94\xeb\xdc\x03") }, codeInvalidBuffer},
		{"no options", func(m *a.Redpanda) []byte { return with(m, "") }, 10},
		{"first topic", func(m *a.Redpanda) []byte { return with(m, "\x01\x04in") }, 10},
		{"second topic", func(m *a.Redpanda) []byte { return with(m, "\x01\x0calerts") }, 10},
		{"unknown topic", func(m *a.Redpanda) []byte { return with(m, "\x01\x04no") }, codeInvalidWrite},
		{"unknown option", func(m *a.Redpanda) []byte { return with(m, "\x02\x02") }, codeInvalidBuffer},
		{"option cut", func(m *a.Redpanda) []byte { return with(m, "\x01\x04i") }, codeInvalidBuffer},
		{"option without length", func(m *a.Redpanda) []byte { return with(m, "\x01") }, codeInvalidBuffer},
		{"option too long", func(m *a.Redpanda) []byte { return with(m, "\x01\x04in!") }, codeInvalidBuffer},
		{"negative length", func(m *a.Redpanda) []byte { return with(m, "\x01\x01") }, codeInvalidBuffer},
		{"read behind the end", func(m *a.Redpanda) []byte { return read(m, 1000) }, codeNoTransform},
		{"schema registry", func(m *a.Redpanda) []byte {
			return a.Join(i32(1), i32(at), a.Call(m.Import(moduleSchema, "get_schema_definition_len", a.Sig(a.I32, a.I32).To(a.I32))))
		}, -1},
		{"state", func(m *a.Redpanda) []byte {
			return a.Join(i32(at), i32(1), i32(at), i32(1), a.Call(m.Import(moduleRivulet, "state_get", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))))
		}, codeNotGranted},
		{"timer", func(m *a.Redpanda) []byte {
			return a.Join(i32(at), i32(1), a.I64Const(0), a.Call(m.Import(moduleRivulet, "timer_set", a.Sig(a.I32, a.I32, a.I64).To(a.I32))))
		}, codeNotGranted},
		{"event time", func(m *a.Redpanda) []byte {
			now := m.Import(moduleRivulet, "now_ms", a.Sig().To(a.I64))
			return a.Join(a.Call(now), a.I64Const(1_700_000_000_000), []byte{0x51}) // i64.eq
		}, 1},
		{"metric", func(m *a.Redpanda) []byte {
			add := m.Import(moduleRivulet, "metric_add", a.Sig(a.I32, a.I32, a.I64).To(a.I32))
			m.Data(at, []byte("hits_2 x"))
			return a.Join(i32(at), i32(6), a.I64Const(5), a.Call(add))
		}, 0},
		{"metric of a bad name", func(m *a.Redpanda) []byte {
			add := m.Import(moduleRivulet, "metric_add", a.Sig(a.I32, a.I32, a.I64).To(a.I32))
			m.Data(at, []byte("hits x"))
			return a.Join(i32(at), i32(6), a.I64Const(5), a.Call(add))
		}, codeInvalidBuffer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := a.NewRedpanda()
			code := tt.code(m)
			if got := answer(t, h, AttachOptions{Input: "in", Outputs: []string{"in", "alerts"}}, answers(m, store(code))); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// A guest whose buffer is too small may ask again for the same record.
func TestReadAgain(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	read := m.Import(moduleTransform, "read_next_record", a.Sig(a.I32, a.I32, a.I32, a.I32, a.I32).To(a.I32))
	small := a.Join(bytes.Repeat(a.I32Const(4096), 4), a.I32Const(3), a.Call(read))
	wasm := m.Finish(0,
		small, a.I32Const(codeInvalidBuffer), a.I32Ne, a.If, small, a.I32Const(codeNoTransform), a.I32Ne, a.If, a.Unreachable, a.End, a.End,
		m.Emit(a.I32Const(a.RecordBuffer), a.LocalGet(a.RecordSize)))
	att := attach(t, h, wasm, AttachOptions{})
	if got := render(process(t, att, records(3, func(i int) string { return fmt.Sprint(i) }))); got != "0 0\n1 1\n2 2\n" {
		t.Errorf("got %s", got)
	}
}

// What a guest is told of a batch, byte for byte, at unaligned addresses, with nothing written beyond.
func TestBatchHeader(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	header := m.Import(moduleTransform, "read_batch_header", a.Sig(bytes.Repeat([]byte{a.I32}, 10)...).To(a.I32))
	next := m.Import(moduleTransform, "read_next_record", a.Sig(bytes.Repeat([]byte{a.I32}, 5)...).To(a.I32))
	const at = 1025 // ten fields, 12 bytes apart; the memory is filled with 0xee first
	var fields []byte
	for i := range 10 {
		fields = append(fields, a.I32Const(int32(at+12*i))...)
	}
	m.Memory(1)
	m.Data(at-3, append([]byte{1, 0x80 | 124<<1&0x7f, 124 << 1 >> 7}, bytes.Repeat([]byte{0xee}, 120)...)) // no key, value of 124 bytes
	m.ExportFunc("_start", m.Func(a.Sig(), []a.Type{a.I32}, a.Loop,
		fields, a.Call(header), a.LocalSet(0),
		a.I32Const(at+120), a.LocalGet(0), a.I32Store(0), // the result, then no headers
		a.I32Const(4000), a.I32Const(4008), a.I32Const(4016), a.I32Const(4024), a.I32Const(1000), a.Call(next), a.Drop,
		a.I32Const(at-3), a.I32Const(128), a.Call(m.WriteRecord), a.Drop,
		a.Br(0), a.End))
	att := attach(t, h, m.Bytes(), AttachOptions{})
	in := records(3, func(i int) string { return strings.Repeat("x", 5*i) })
	for i := range in {
		in[i].Offset = 0x1122334455660000 + int64(i)
	}
	in[1].Timestamp = 5
	v := process(t, att, in).Results[0].Payload.Value()
	want := []byte{}
	field := func(b ...byte) {
		want = append(append(want, b...), bytes.Repeat([]byte{0xee}, 12-len(b))...)
	}
	ts := int64(1_700_000_000_000)
	le := func(v int64) []byte {
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		return b
	}
	field(0, 0, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11)
	field(3, 0, 0, 0)
	field(0, 0, 0, 0)
	field(0, 0)
	field(2, 0, 0, 0)
	field(le(ts)...)
	field(le(ts + 2)...)
	field(le(-1)...)
	field(0xff, 0xff)
	field(0xff, 0xff, 0xff, 0xff)
	want = append(want, byte(len(in[2].Payload)), 0, 0, 0)
	if !bytes.Equal(v, want) {
		t.Errorf("got  %x\nwant %x", v, want)
	}
}

func TestReject(t *testing.T) {
	h := newHost(t, Options{})
	for policy, want := range []string{
		"0 v0\n1 dead (rejected by the plugin: no good) !1\n2 v2\n",
		"0 v0\n2 v2\n",
		"0 v0\n1 rejected (rejected by the plugin: no good) !1\n2 v2\n",
	} {
		m := a.NewRedpanda()
		reject := m.Import(moduleRivulet, "reject", a.Sig(a.I32, a.I32, a.I32).To(a.I32))
		m.Data(4096, []byte("no good"))
		att := attach(t, h, hostile(m,
			m.Emit(a.I32Const(a.RecordBuffer), a.LocalGet(a.RecordSize)), // taken back
			a.I32Const(4096), a.I32Const(7), a.I32Const(int32(policy)), a.Call(reject), a.Drop,
		), AttachOptions{})
		out := process(t, att, poisoned(3, 1))
		if got := render(out); got != want {
			t.Errorf("policy %d: got\n%swant\n%s", policy, got, want)
		}
		if s := att.Stats(); s.Errors != 0 || s.Restarts != 0 {
			t.Errorf("policy %d: %+v", policy, s)
		}
	}
}

func TestMetrics(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	add := m.Import(moduleRivulet, "metric_add", a.Sig(a.I32, a.I32, a.I64).To(a.I32))
	set := m.Import(moduleRivulet, "metric_set", a.Sig(a.I32, a.I32, a.F64).To(a.I32))
	m.Data(4096, []byte("hitslevel"))
	att := attach(t, h, hostile(m,
		a.I32Const(4096), a.I32Const(4), a.I64Const(2), a.Call(add), a.Drop,
		a.I32Const(4100), a.I32Const(5), []byte{0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, a.Call(set), a.Drop, // 1.5
	), AttachOptions{})
	process(t, att, poisoned(5, 1, 2, 4))
	got := att.Metrics()
	slices.SortFunc(got, func(x, y Metric) int { return strings.Compare(x.Name, y.Name) })
	if want := []Metric{{"hits", true, 6}, {"level", false, 1.5}}; !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	h := newHost(t, Options{MaxBinary: 100_000, MemoryLimit: 1 << 20})
	library := a.New()
	library.Memory(1)
	reactor := a.New()
	reactor.Memory(1)
	reactor.ExportFunc("_initialize", reactor.Func(a.Sig(), nil))
	command := func(build func(m *a.Module)) []byte {
		m := a.New()
		build(m)
		m.ExportFunc("_start", m.Func(a.Sig(), nil))
		return m.Bytes()
	}
	abi := func(m *a.Module) { m.Import(moduleTransform, "check_abi_version_1", a.Sig()) }
	params := a.New()
	abi(params)
	params.Memory(1)
	params.ExportFunc("_start", params.Func(a.Sig(a.I32), nil))
	broken := a.New()
	abi(broken)
	broken.Memory(1)
	broken.ExportFunc("_start", broken.Func(a.Sig(), nil, a.I32Add))
	for name, tt := range map[string]struct {
		wasm []byte
		want string
	}{
		"text":          {[]byte("#!/bin/sh"), "does not begin as a WebAssembly"},
		"too large":     {make([]byte, 100_001), "strip it"},
		"library":       {library.Bytes(), "_start"},
		"reactor":       {reactor.Bytes(), "built as a reactor"},
		"no memory":     {command(abi), "export its memory"},
		"params":        {params.Bytes(), "without parameters"},
		"no transform":  {command(func(m *a.Module) { m.Memory(1) }), "OnRecordWritten"},
		"large memory":  {command(func(m *a.Module) { abi(m); m.Memory(17) }), "begins with 1114112 bytes"},
		"built for js":  {command(func(m *a.Module) { abi(m); m.Import("gojs", "runtime.wasmExit", a.Sig(a.I32)); m.Memory(1) }), "GOOS=wasip1"},
		"linked wrong":  {command(func(m *a.Module) { abi(m); m.Import("env", "puts", a.Sig(a.I32)); m.Memory(1) }), "not found when it was linked"},
		"preview 2":     {command(func(m *a.Module) { abi(m); m.Import("wasi:io/poll", "poll", a.Sig(a.I32)); m.Memory(1) }), "preview 1"},
		"unknown name":  {command(func(m *a.Module) { m.Import(moduleTransform, "check_abi_version_3", a.Sig()); m.Memory(1) }), "check_abi_version_3"},
		"wrong type":    {command(func(m *a.Module) { abi(m); m.Import(moduleTransform, "write_record", a.Sig(a.I64)); m.Memory(1) }), "(i64) -> ()"},
		"does not type": {broken.Bytes(), "i32.add"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Compile(context.Background(), tt.wasm)
			if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	h := newHost(t, Options{})
	m, err := h.Compile(context.Background(), builtin.Identity())
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range maxEnv + 1 {
		many[fmt.Sprint("K", i)] = "v"
	}
	for name, tt := range map[string]struct {
		o    AttachOptions
		want string
	}{
		"on_error":      {AttachOptions{OnError: "ignore"}, `on_error "ignore"`},
		"outputs":       {AttachOptions{Outputs: strings.Split("123456789", "")}, "9 output topics"},
		"twice":         {AttachOptions{Outputs: []string{"a", "b", "a"}}, "named twice"},
		"variables":     {AttachOptions{Env: many}, "129 variables"},
		"reserved":      {AttachOptions{Env: map[string]string{"REDPANDA_X": "1"}}, "reserved"},
		"equals":        {AttachOptions{Env: map[string]string{"A=B": "1"}}, "variable name"},
		"control":       {AttachOptions{Env: map[string]string{"A": "1\n2"}}, "line breaks"},
		"long value":    {AttachOptions{Env: map[string]string{"A": strings.Repeat("x", 2049)}}, "2048 bytes"},
		"invalid UTF-8": {AttachOptions{Env: map[string]string{"A": "\xff"}}, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := h.Attach(context.Background(), m, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestModule(t *testing.T) {
	h := newHost(t, Options{})
	ctx := context.Background()
	wasm := builtin.DropHalf()
	modules := make(chan *Module)
	for range 4 {
		go func() {
			m, err := h.Compile(ctx, bytes.Clone(wasm))
			if err != nil {
				t.Error(err)
			}
			modules <- m
		}()
	}
	first := <-modules
	for range 3 {
		if <-modules != first {
			t.Error("the same bytes gave two modules")
		}
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(wasm)); first.SHA256() != want {
		t.Errorf("digest %s, want %s", first.SHA256(), want)
	}
	if got := strings.Join(first.Imports(), " "); !strings.HasPrefix(got, "redpanda_transform.check_abi_version_2 redpanda_transform.read_batch_header") {
		t.Errorf("imports %s", got)
	}
	att := attach(t, h, wasm, AttachOptions{})
	if err := h.Forget(ctx, first); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Attach(ctx, first, AttachOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Attach of a forgotten module: %v", err)
	}
	again := attach(t, h, wasm, AttachOptions{})
	for _, at := range []*Attachment{att, again} {
		if got := render(process(t, at, records(4, func(i int) string { return fmt.Sprint(i) }))); got != "0 0\n2 2\n" {
			t.Errorf("got %s", got)
		}
	}
	closeAttachment(t, att)
	if got := render(process(t, again, records(2, func(i int) string { return fmt.Sprint(i) }))); got != "0 0\n" {
		t.Errorf("got %s", got)
	}
}

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	old := filepath.Join(dir, "wazero-v0.0.1")
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func() {
		h := newHost(t, Options{CacheDir: dir})
		att := attach(t, h, builtin.Identity(), AttachOptions{})
		if got := render(process(t, att, records(1, func(int) string { return "x" }))); got != "0 x\n" {
			t.Errorf("got %s", got)
		}
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	files := func() (all []string) {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	run()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("code of another version is still there: %v", err)
	}
	run()
	for _, damage := range []func(b []byte) []byte{
		func(b []byte) []byte { return nil },
		func(b []byte) []byte { return make([]byte, len(b)) },
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		for _, f := range files() {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run()
	}
}

// Three runs leave the same memory behind, bit by bit, and use the same fuel.
func TestDeterminism(t *testing.T) {
	type result struct {
		memory [32]byte
		fuel   uint64
		out    string
	}
	var first result
	for i := range 3 {
		h := newHost(t, Options{CacheDir: compiled})
		att := attach(t, h, guests.Go(t, modes), AttachOptions{Log: func(bool, string) {}, Env: map[string]string{"A": "1", "B": "2", "C": "3"}})
		var out Output
		for n := range 20 {
			in := records(50, func(i int) string { return []string{"clock", "count", "upper x", "twice", "sleep"}[(i+n)%5] })
			if err := att.Process(context.Background(), 0, in, &out); err != nil {
				t.Fatal(err)
			}
		}
		in := att.lanes[0].inst
		mem, _ := in.mem.Read(0, in.mem.Size())
		got := result{sha256.Sum256(mem), att.Stats().FuelUsed, render(&out)}
		if i == 0 {
			first = got
		} else if got != first {
			t.Errorf("run %d differs: memory %t, fuel %d and %d, output %t", i, got.memory == first.memory, got.fuel, first.fuel, got.out == first.out)
		}
	}
}

func TestTwoHosts(t *testing.T) {
	for range 2 {
		t.Run("host", func(t *testing.T) {
			t.Parallel()
			h := newHost(t, Options{})
			for range 20 {
				att := attach(t, h, trapping(), AttachOptions{})
				if got := render(process(t, att, poisoned(3, 1))); !strings.HasPrefix(got, "0 v0\n1 dead") {
					t.Errorf("got %s", got)
				}
				closeAttachment(t, att)
			}
		})
	}
}

func TestAllocations(t *testing.T) {
	h := newHost(t, Options{})
	for name, wasm := range map[string][]byte{"identity": builtin.Identity(), "changing": answers(a.NewRedpanda())} {
		att := attach(t, h, wasm, AttachOptions{})
		in := records(100, func(int) string { return "some value" })
		var out Output
		ctx := context.Background()
		n := testing.AllocsPerRun(100, func() {
			out.Reset()
			if err := att.Process(ctx, 0, in, &out); err != nil {
				t.Fatal(err)
			}
		})
		if n >= 1 && h.Engine() == engineCompiler { // the interpreter allocates for each call
			t.Errorf("%s: %v allocations for 100 records", name, n)
		}
	}
}

func TestExampleDropCold(t *testing.T) {
	h := newHost(t, Options{CacheDir: compiled})
	att := attach(t, h, guests.Go(t, "../examples/plugins/go/drop-cold"), AttachOptions{Env: map[string]string{"MIN": "21.5"}, Log: func(bool, string) {}})
	values := []string{`{"temp": 21.4}`, `{"temp":21.5,"x":1}`, `{"hum":1}`, `{"temp":30}`}
	want := "1 {\"temp\":21.5,\"x\":1}\n2 dead (module failed: exit with status 2: panic: transforming record failed: no \"temp\" in the record) {\"hum\":1}\n3 {\"temp\":30}\n"
	if got := render(process(t, att, records(4, func(i int) string { return values[i] }))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func FuzzTopicOption(f *testing.F) {
	f.Add([]byte("\x01\x04in"))
	f.Add([]byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	att := &Attachment{outputs: []string{"in", "alerts"}}
	f.Fuzz(func(t *testing.T, opts []byte) {
		if i, c := att.topicOption(opts); c == 0 && len(opts) > 0 && !bytes.HasSuffix(opts, []byte(att.outputs[i])) {
			t.Errorf("%q is said to be %s", opts, att.outputs[i])
		}
	})
}

// Code that cannot be kept, on a full disk for instance, runs all the same.
func TestCacheThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	h := newHost(t, Options{CacheDir: dir})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	att := attach(t, h, builtin.Identity(), AttachOptions{})
	if got := render(process(t, att, records(1, func(int) string { return "x" }))); got != "0 x\n" {
		t.Errorf("got %s", got)
	}
}
