package mirror

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
	"rivulet/storage"
	"rivulet/storage/batch"
	"rivulet/sync/compare"
)

// appendNumbered commits n records whose values say which life of the edge they are of.
func (h *here) appendNumbered(t testing.TB, p *edge.Partition, life string, from, n int) {
	t.Helper()
	records := make([]batch.Record, n)
	for i := range records {
		records[i] = batch.Record{Timestamp: 1700000000000, Payload: batch.AppendPayload(nil, nil, fmt.Appendf(nil, "%s %d", life, from+i), nil)}
	}
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: records}}}); err != nil {
		t.Fatal(err)
	}
}

// values counts what the centre has, by value.
func values(t testing.TB, brokers []string, topic string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for r, err := range compare.Topic(t.Context(), topic, 0, kgo.SeedBrokers(brokers...)) {
		if err != nil {
			t.Fatal(err)
		}
		out[string(r.Value)]++
	}
	return out
}

// A restored edge goes on at min(the centre's position, the backup's end), whichever of the two is behind: everything that either
// history holds is at the centre, once.
func TestRestoredEdge(t *testing.T) {
	for name, c := range map[string]struct {
		lag   bool // the centre is behind the backup
		alarm bool
	}{
		"the centre knows more than the backup": {false, true},
		"the centre is behind the backup":       {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			centre := newCentre(t, tv2)
			brokers := centre.ListenAddrs()
			h := openHere(t, t.TempDir())
			p := h.topic(t, "telemetry", 1).Partitions[0]
			want := map[string]int{}
			write := func(h *here, p *edge.Partition, life string, from, n int) {
				h.appendNumbered(t, p, life, from, n)
				for i := range n {
					want[fmt.Sprintf("%s %d", life, from+i)] = 1
				}
			}
			write(h, p, "first", 0, 40)
			u := start(t, options(t, h, brokers, Rule{Topic: "telemetry"}))
			u.mirrored(t)
			if c.lag {
				u.stop()
			}
			write(h, p, "first", 40, 20)
			var file bytes.Buffer
			if _, err := h.store.Backup(t.Context(), &file, nil); err != nil {
				t.Fatal(err)
			}
			if !c.lag {
				write(h, p, "first", 60, 40) // the backup does not have these, the centre does
				u.mirrored(t)
				u.stop()
			}
			h.close(t)

			dir := filepath.Join(t.TempDir(), "restored")
			if _, err := storage.Restore(t.Context(), &file, dir, storage.RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
			h = openHere(t, dir)
			p = h.topic(t, "telemetry", 1).Partitions[0]
			for round := range 2 { // the second start knows the new generation
				write(h, p, "second", 10*round, 10)
				u = start(t, options(t, h, brokers, Rule{Topic: "telemetry"}))
				u.mirrored(t)
				if round == 0 && u.alarmed("was restored") != c.alarm {
					t.Errorf("alarms %v", u.Status().Alarms)
				}
				u.stop()
			}
			got := values(t, brokers, "telemetry")
			for v, n := range want {
				if got[v] != n {
					t.Errorf("%q is at the centre %d times, want %d", v, got[v], n)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d values at the centre, want %d", len(got), len(want))
			}
			if c.lag {
				equal(t, h, "telemetry", brokers, "telemetry")
			}
		})
	}
}

// Records that are damaged on this disk are passed over: what is behind them arrives, and it is told what does not.
func TestDamagedRecordsArePassedOver(t *testing.T) {
	centre := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	for range 20 {
		h.append(t, p, 400, 200)
	}
	dir := h.dir
	h.close(t)
	files, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.db"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	h = openHere(t, dir)
	p = h.topic(t, "telemetry", 1).Partitions[0]
	u := start(t, options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	damages := h.store.Damages()
	if len(damages) != 1 {
		t.Fatal(damages)
	}
	lost := damages[0].Next - damages[0].First
	if !u.alarmed("are damaged on this disk") || u.Status().Gaps != uint64(lost) {
		t.Errorf("%d records are lost, status %+v", lost, u.Status())
	}
	if n := count(t, centre.ListenAddrs(), "telemetry"); int64(n) != 8000-lost {
		t.Errorf("%d records at the centre, %d of 8000 are damaged", n, lost)
	}
	equal(t, h, "telemetry", centre.ListenAddrs(), "telemetry")
	h.append(t, p, 10, 100)
	u.mirrored(t)
	if n := count(t, centre.ListenAddrs(), "telemetry"); int64(n) != 8010-lost {
		t.Errorf("%d records at the centre", n)
	}
}
