package plugins

import (
	"context"
	"fmt"
	"testing"
	"time"

	"rivulet/examples/plugins/builtin"
	a "rivulet/plugins/asm"
)

// FuzzGuest runs whatever compiles. Whatever it does, each record has its results or its error, in order and in time, and
// the host is as before.
func FuzzGuest(f *testing.F) {
	f.Add(builtin.Identity())
	f.Add(builtin.DropCold(20))
	f.Add(hostile(a.NewRedpanda(), spin))
	m := a.NewRedpanda()
	m.Import(moduleWASI, "fd_write", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
	m.Import(moduleWASI, "poll_oneoff", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
	m.Import(moduleRivulet, "json_get", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
	m.Import(moduleRivulet, "reject", a.Sig(a.I32, a.I32, a.I32).To(a.I32))
	f.Add(hostile(m, a.I32Const(0), a.I32Const(9), a.I32Const(1), a.Call(8), a.Drop))
	h, err := NewHost(context.Background(), Options{
		MemoryLimit: 1 << 20, RecordTime: 2 * time.Millisecond, StartTime: 2 * time.Millisecond, MaxBinary: 1 << 16,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, wasm []byte) {
		ctx := context.Background()
		m, err := h.Compile(ctx, wasm)
		if err != nil {
			return
		}
		defer func() {
			if err := h.Forget(ctx, m); err != nil {
				t.Error(err)
			}
		}()
		att, err := h.Attach(ctx, m, AttachOptions{Name: "fuzz", Input: "in", Outputs: []string{"in", "out"}, Lanes: 1})
		if err != nil {
			return
		}
		defer closeAttachment(t, att)
		for range 2 {
			in := records(4, func(i int) string { return fmt.Sprintf(`!{"temp":%d}`, 10*i) })
			out := process(t, att, in)
			last := 0
			for _, r := range out.Results {
				if r.Source < last || r.Source >= len(in) {
					t.Fatalf("results are out of order: %s", render(out))
				}
				last = r.Source
				if err := r.Payload.Valid(); err != nil {
					t.Fatalf("a result is malformed: %v", err)
				}
			}
		}
		if s := att.Stats(); s.In != 8 || s.MemoryBytes > 1<<20 {
			t.Fatalf("%+v", s)
		}
	})
}
