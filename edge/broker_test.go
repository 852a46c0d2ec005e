package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rivulet/examples/plugins/builtin"
	"rivulet/plugins"
	"rivulet/plugins/asm"
	"rivulet/storage"
	"rivulet/storage/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the clock of every test.
var now = time.UnixMilli(1_800_000_000_000)

type rig struct {
	*Broker
	t     testing.TB
	dir   string
	store *storage.Store
	o     Options
}

func open(t testing.TB, o Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), o: o}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	s, err := storage.Open(r.t.Context(), storage.Options{Dir: r.dir, JournalBytes: 4 << 20, Now: func() time.Time { return now }})
	if err != nil {
		r.t.Fatal(err)
	}
	o := r.o
	o.Store, o.PluginDir = s, filepath.Join(r.dir, "plugins")
	o.Now = func() time.Time { return now }
	b, err := Open(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Broker, r.store = b, s
}

func (r *rig) stop() {
	r.t.Helper()
	if r.Broker == nil {
		return
	}
	if err := errors.Join(r.Broker.Close(), r.store.Close()); err != nil {
		r.t.Error(err)
	}
	r.Broker = nil
}

func (r *rig) restart() { r.t.Helper(); r.stop(); r.start() }

// publish ingests one slice of MQTT messages, topic and value in turn, and waits until it is durable.
func (r *rig) publish(retain bool, pairs ...string) *Ingest {
	r.t.Helper()
	in, err := r.tryPublish(retain, pairs...)
	if err != nil {
		r.t.Fatal(err)
	}
	return in
}

func (r *rig) tryPublish(retain bool, pairs ...string) (*Ingest, error) {
	r.t.Helper()
	in := &Ingest{}
	for i := 0; i < len(pairs); i += 2 {
		t, err := r.Target(r.t.Context(), pairs[i])
		if err != nil {
			return nil, err
		}
		in.Items = append(in.Items, Item{Target: t, Retain: retain, Record: batch.Record{Payload: message(t, pairs[i+1])}})
	}
	return in, r.ingest(in)
}

func (r *rig) ingest(in *Ingest) error {
	done := make(chan struct{})
	in.Done = func(*Ingest) { close(done) }
	if err := r.Ingest(r.t.Context(), in); err != nil {
		return err
	}
	<-done
	return in.Err
}

// message is a payload as the MQTT front end makes it.
func message(t *Target, value string) batch.Payload {
	p := append([]byte(nil), t.Head...)
	p = append(binary.AppendVarint(p, int64(len(value))), value...)
	return append(binary.AppendVarint(p, 1), t.TopicHeader...)
}

// read returns all records of a topic, partition after partition, and checks that their offsets are dense.
func (r *rig) read(topic string) (recs []batch.Record) {
	r.t.Helper()
	t, ok := r.store.Topic(topic)
	if !ok {
		r.t.Fatalf("no topic %s", topic)
	}
	for _, p := range t.Partitions {
		next, _, high := p.Offsets()
		for next < high {
			sets, err := p.Read(next, high, 1<<20)
			if err != nil || len(sets) == 0 {
				r.t.Fatalf("read %s/%d at %d: %v", topic, p.Index, next, err)
			}
			for _, raw := range sets {
				all, err := decodeAll(raw)
				if err != nil {
					r.t.Fatal(err)
				}
				for _, rec := range all {
					if rec.Offset != next {
						r.t.Fatalf("%s/%d: offset %d where %d belongs", topic, p.Index, rec.Offset, next)
					}
					next++
					recs = append(recs, batch.Record{Offset: rec.Offset, Timestamp: rec.Timestamp, Payload: append(batch.Payload(nil), rec.Payload...)})
				}
			}
		}
	}
	return recs
}

func (r *rig) values(topic string) (values []string) {
	r.t.Helper()
	for _, rec := range r.read(topic) {
		values = append(values, string(rec.Payload.Value()))
	}
	return values
}

func TestDefaultRouteKeepsEverythingInOrderPerTopic(t *testing.T) {
	r := open(t, Options{})
	for i := range 20 {
		var pairs []string
		for d := range 50 {
			pairs = append(pairs, fmt.Sprintf("plant/%d/temp", d), fmt.Sprint(i))
		}
		in := r.publish(false, pairs...)
		for _, it := range in.Items {
			if it.Base < 0 {
				t.Fatalf("%s was stored at %d", it.Target.MQTT, it.Base)
			}
		}
	}
	next := map[string]int{}
	partitions := map[string]bool{}
	for _, rec := range r.read(DefaultTopic) {
		key := string(rec.Payload.Key())
		if name, _ := rec.Payload.Header(HeaderTopic); string(name) != key {
			t.Errorf("record of %s has mqtt.topic %s", key, name)
		}
		if got := string(rec.Payload.Value()); got != fmt.Sprint(next[key]) {
			t.Fatalf("%s: value %s where %d belongs", key, got, next[key])
		}
		next[key]++
		partitions[key] = true
		if rec.Timestamp != now.UnixMilli() {
			t.Fatalf("timestamp %d, want the arrival's", rec.Timestamp)
		}
	}
	if len(next) != 50 {
		t.Errorf("%d topics arrived, want 50", len(next))
	}
	if c := r.Counters(); c.MessagesIn != 1000 {
		t.Errorf("counted %d messages in, want 1000", c.MessagesIn)
	}
}

func TestRouteChoosesTopicKeyAndTimestamp(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "f/+/t/#", Topic: "tele metry-{1}", Key: "{1}", Timestamp: "json(ts)"}}})
	r.publish(false, "f/7/t/a", `{"ts":1700000000}`, "f/7/t/b", `{"ts":9999999999}`)
	recs := r.read("tele_metry-7")
	if len(recs) != 2 || string(recs[0].Payload.Key()) != "7" || recs[0].Timestamp != 1700000000000 {
		t.Fatalf("got %+v", recs)
	}
	if recs[1].Timestamp != now.UnixMilli() {
		t.Errorf("a timestamp far ahead was kept: %d", recs[1].Timestamp)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "evil/+", Topic: "_rivulet-{1}"}}})
	for topic, want := range map[string]error{"": ErrInvalidTopic, "a/#": ErrInvalidTopic, "a\x00": ErrInvalidTopic, "\xff": ErrInvalidTopic, "evil/audit": ErrInternal} {
		if _, err := r.Target(t.Context(), topic); !errors.Is(err, want) {
			t.Errorf("target of %q: %v, want %v", topic, err, want)
		}
	}
	if _, err := r.CreateTopic(t.Context(), TopicSpec{Name: "a/b"}); !errors.Is(err, ErrInvalidTopic) {
		t.Errorf("create a/b: %v", err)
	}
	if _, err := r.CreateTopic(t.Context(), TopicSpec{Name: "a", Partitions: 1 << 30}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("create with 2^30 partitions: %v", err)
	}
}

func TestRetainedIsDurableReplacedAndCleared(t *testing.T) {
	r := open(t, Options{})
	r.publish(true, "a/1", "old", "a/2", "x", "a", "top", "b/1", "y", "$SYS/z", "s")
	r.publish(true, "a/1", "new", "a/2", "")
	r.publish(false, "a/1", "not retained")
	for range 2 {
		for filter, want := range map[string]string{"a/#": "a=top a/1=new", "+/1": "a/1=new b/1=y", "#": "a=top a/1=new b/1=y", "a/1": "a/1=new", "a/2": "", "$SYS/#": "$SYS/z=s"} {
			var got []string
			if err := r.Retained(filter, func(topic string, rec batch.Record) {
				got = append(got, topic+"="+string(rec.Payload.Value()))
			}); err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("retained %s: %q, want %q", filter, got, want)
			}
		}
		r.restart()
	}
	if n, _, _ := r.RetainedCount(); n != 4 {
		t.Errorf("%d retained messages are accounted for, want 4", n)
	}
	r.publish(true, "b/1", strings.Repeat("x", maxRetained))
	if err := r.Retained("b/1", func(string, batch.Record) { t.Error("a message over the bound left a retained copy") }); err != nil {
		t.Error(err)
	}
	if _, _, refused := r.RetainedCount(); refused != 1 {
		t.Errorf("%d refused, want 1", refused)
	}
}

func TestPutsRideWithTheRecords(t *testing.T) {
	r := open(t, Options{})
	target, err := r.Target(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	in := &Ingest{Items: []Item{{Target: target, Record: batch.Record{Payload: message(target, "v")}}}, Puts: []Put{{Space: "mqtt.qos2", Key: "c\x00\x01", Value: []byte{1}}}}
	if err := r.ingest(in); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if v, err := r.store.Get("mqtt.qos2", "c\x00\x01"); err != nil || len(v) != 1 {
		t.Errorf("the packet id is %v, %v after a restart", v, err)
	}
}

func TestPluginFiltersKeepsOrderAndCounts(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "#", Topic: "t"}}, Topics: []TopicSpec{{Name: "t", Partitions: 8}}})
	r.attach("cold", builtin.DropCold(20), AttachSpec{Topic: "t"})
	for i := range 40 {
		var pairs []string
		for d := range 10 {
			pairs = append(pairs, fmt.Sprintf("d/%d", d), fmt.Sprintf(`{"temp":%d}`, i))
		}
		in := r.publish(i == 10 || i == 30, pairs...)
		for _, it := range in.Items {
			if (it.Base >= 0) != (i >= 20) {
				t.Fatalf("temp %d has offset %d", i, it.Base)
			}
		}
	}
	next := map[string]int{}
	for _, rec := range r.read("t") {
		key := string(rec.Payload.Key())
		if want := fmt.Sprintf(`{"temp":%d}`, 20+next[key]); string(rec.Payload.Value()) != want {
			t.Fatalf("%s: %s where %s belongs", key, rec.Payload.Value(), want)
		}
		next[key]++
	}
	if len(next) != 10 || next["d/0"] != 20 {
		t.Errorf("kept %v, want 20 of each of 10 topics", next)
	}
	st := r.Attachments()[0].Stats
	if st.In != 400 || st.Dropped != 200 {
		t.Errorf("counted %d in, %d dropped", st.In, st.Dropped)
	}
	n := 0
	if err := r.Retained("#", func(_ string, rec batch.Record) {
		n++
		if string(rec.Payload.Value()) != `{"temp":30}` {
			t.Errorf("retained %s, but the plugin dropped what is below 20", rec.Payload.Value())
		}
	}); err != nil || n != 10 {
		t.Errorf("%d retained, %v", n, err)
	}
}

func (r *rig) attach(name string, wasm []byte, a AttachSpec) {
	r.t.Helper()
	if _, err := r.PushPlugin(r.t.Context(), name, "", "", wasm); err != nil {
		r.t.Fatal(err)
	}
	a.Plugin = name
	if err := r.AttachPlugin(r.t.Context(), a); err != nil {
		r.t.Fatal(err)
	}
}

func TestPluginSurvivesRestartSwapAndDetach(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "#", Topic: "t"}}})
	r.attach("p", builtin.DropCold(20), AttachSpec{Topic: "t"})
	if rev, err := r.PushPlugin(t.Context(), "p", "", "", builtin.DropCold(20)); err != nil || rev.Number != 1 {
		t.Errorf("the same bytes are revision %d, %v", rev.Number, err)
	}
	r.restart()
	r.publish(false, "d", `{"temp":10}`, "d", `{"temp":30}`)
	if _, err := r.PushPlugin(t.Context(), "p", "2", "", builtin.DropCold(5)); err != nil {
		t.Fatal(err)
	}
	if a := r.Attachments(); a[0].Revision != 2 {
		t.Errorf("the attachment runs revision %d, want 2", a[0].Revision)
	}
	r.publish(false, "d", `{"temp":10}`)
	if err := r.DeletePlugin(t.Context(), "p"); !errors.Is(err, ErrAttached) {
		t.Errorf("delete while attached: %v", err)
	}
	if err := r.DetachPlugin(t.Context(), "p", "t"); err != nil {
		t.Fatal(err)
	}
	r.publish(false, "d", `{"temp":1}`)
	if err := r.DeletePlugin(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	want := `{"temp":30} {"temp":10} {"temp":1}`
	if got := strings.Join(r.values("t"), " "); got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "plugins", "*.wasm"))
	if err != nil || len(files) != 0 {
		t.Errorf("uploads left behind: %v %v", files, err)
	}
}

func TestBrokenUploadHaltsItsTopicAndNothingElse(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "a", Topic: "a"}}})
	r.attach("p", builtin.Identity(), AttachSpec{Topic: "a"})
	r.stop()
	files, _ := filepath.Glob(filepath.Join(r.dir, "plugins", "*.wasm"))
	if len(files) != 1 {
		t.Fatalf("uploads: %v", files)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if _, err := r.tryPublish(false, "a", "v"); !errors.Is(err, ErrHalted) {
		t.Errorf("publish past a broken plugin: %v", err)
	}
	r.publish(false, "b", "v")
	if st := r.Attachments()[0].Stats; st.State != "halted" || st.LastError == "" {
		t.Errorf("the attachment says %q %q", st.State, st.LastError)
	}
}

func TestPluginErrorsGoWhereTheAttachmentSays(t *testing.T) {
	for _, c := range []struct {
		onError plugins.OnError
		topic   string // where the poison ends
		item    error
	}{
		{plugins.DeadLetter, "t.dlq", nil}, {plugins.Drop, "", nil}, {plugins.Pass, "t", nil}, {plugins.Reject, "", ErrRejected},
	} {
		t.Run(string(c.onError), func(t *testing.T) {
			r := open(t, Options{Routes: []Route{{MQTT: "#", Topic: "t"}}})
			r.attach("p", trapOn("poison"), AttachSpec{Topic: "t", OnError: c.onError})
			in := r.publish(false, "d", "one", "d", "poison", "d", "two")
			if !errors.Is(in.Items[1].Err, c.item) || in.Items[0].Err != nil {
				t.Errorf("items say %v, %v", in.Items[0].Err, in.Items[1].Err)
			}
			want := "one two"
			if c.topic == "t" {
				want = "one poison two"
			}
			if got := strings.Join(r.values("t"), " "); got != want {
				t.Errorf("stored %q, want %q", got, want)
			}
			if c.topic == "t.dlq" {
				recs := r.read("t.dlq")
				if len(recs) != 1 || string(recs[0].Payload.Value()) != "poison" || string(recs[0].Payload.Key()) != "d" {
					t.Fatalf("dead letters: %v", recs)
				}
				for name, part := range map[string]string{HeaderError: "unreachable", HeaderSource: "t/0/", HeaderPlugin: "p@1", HeaderTopic: "d"} {
					if v, _ := recs[0].Payload.Header(name); !strings.Contains(string(v), part) {
						t.Errorf("header %s is %q, want %q in it", name, v, part)
					}
				}
			}
		})
	}
}

func TestIngestBatchStoresBytesAsTheyAre(t *testing.T) {
	r := open(t, Options{})
	topic, err := r.EnsureTopic(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	send := func(raw []byte) *BatchIn {
		in := &BatchIn{Topic: topic, Batch: raw}
		done := make(chan struct{})
		in.Done = func(*BatchIn) { close(done) }
		if err := r.IngestBatch(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		<-done
		return in
	}
	var comp batch.Compressor
	raw := rawBatch(now.UnixMilli(), 7, 0, "a", "b")
	packed, err := comp.Compress(nil, raw, batch.LZ4)
	if err != nil {
		t.Fatal(err)
	}
	if in := send(append([]byte(nil), packed...)); in.Err != nil || in.Base != 0 {
		t.Fatalf("first: %d %v", in.Base, in.Err)
	}
	if in := send(append([]byte(nil), packed...)); !errors.Is(in.Err, ErrDuplicate) || in.Base != 0 {
		t.Errorf("again: %d %v, want a duplicate at 0", in.Base, in.Err)
	}
	if in := send(rawBatch(now.UnixMilli(), 7, 9, "c")); !errors.Is(in.Err, ErrOutOfOrder) {
		t.Errorf("a gap: %v", in.Err)
	}
	if in := send(rawBatch(now.Add(time.Hour).UnixMilli(), 7, 2, "c")); in.Err != nil || in.Base != 2 {
		t.Errorf("the next: %d %v", in.Base, in.Err)
	}
	if got := strings.Join(r.values("k"), " "); got != "a b c" {
		t.Errorf("stored %s", got)
	}
	if recs := r.read("k"); recs[2].Timestamp != now.UnixMilli() {
		t.Errorf("a timestamp an hour ahead was kept: %d", recs[2].Timestamp)
	}
}

func TestIngestBatchThroughAPluginIsStillIdempotent(t *testing.T) {
	r := open(t, Options{})
	r.attach("cold", builtin.DropCold(20), AttachSpec{Topic: "k"})
	topic, _ := r.store.Topic("k")
	send := func(seq int32, values ...string) *BatchIn {
		in := &BatchIn{Topic: topic, Batch: rawBatch(now.UnixMilli(), 9, seq, values...)}
		done := make(chan struct{})
		in.Done = func(*BatchIn) { close(done) }
		if err := r.IngestBatch(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		<-done
		return in
	}
	if in := send(0, `{"temp":30}`, `{"temp":1}`); in.Err != nil || in.Base != 0 {
		t.Errorf("half dropped: %d %v", in.Base, in.Err)
	}
	if in := send(2, `{"temp":1}`); in.Err != nil || in.Base != -1 {
		t.Errorf("all dropped: %d %v, want -1", in.Base, in.Err)
	}
	r.restart()
	topic, _ = r.store.Topic("k")
	if in := send(2, `{"temp":1}`); !errors.Is(in.Err, ErrDuplicate) {
		t.Errorf("all dropped, again after a restart: %v", in.Err)
	}
	if in := send(0, `{"temp":30}`, `{"temp":1}`); !errors.Is(in.Err, ErrDuplicate) || in.Base != 0 {
		t.Errorf("half dropped, again: %d %v", in.Base, in.Err)
	}
	if got := r.values("k"); len(got) != 1 {
		t.Errorf("stored %s", got)
	}
}

func rawBatch(ts, pid int64, seq int32, values ...string) []byte {
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, v := range values {
		w.Add(ts, batch.AppendPayload(nil, []byte("k"), []byte(v), nil))
	}
	return w.End(0, pid, 0, seq)
}

func TestMQTTName(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "r/#", Topic: "routed"}}})
	header := []batch.KV{{Key: HeaderTopic, Value: []byte("from/header")}}
	for _, c := range []struct {
		topic, key string
		headers    []batch.KV
		want       string
	}{
		{"routed", "k", header, "from/header"},
		{"mqtt", "k", header, "from/header"},
		{"mqtt", "a/b", nil, "a/b"},
		{"mqtt", "", nil, ""},
		{"other", "k", header, "other/k"},
		{"other", "", header, "other"},
		{"other", "a+b", nil, "other"},
		{"_rivulet-audit", "k", nil, ""},
	} {
		topic, err := r.EnsureTopic(t.Context(), c.topic)
		if err != nil {
			t.Fatal(err)
		}
		got := r.Broker.MQTTName(topic.Partitions[0], batch.AppendPayload(nil, []byte(c.key), nil, c.headers))
		if string(got) != c.want {
			t.Errorf("%s with key %q: %q, want %q", c.topic, c.key, got, c.want)
		}
	}
}

func TestDryRunKeepsNothing(t *testing.T) {
	r := open(t, Options{Routes: []Route{{MQTT: "#", Topic: "t"}}, Topics: []TopicSpec{{Name: "t", Partitions: 2}}})
	for i := range 30 {
		r.publish(false, fmt.Sprint("d", i), fmt.Sprintf(`{"temp":%d}`, i))
	}
	rep, err := r.TestPlugin(t.Context(), "", builtin.DropCold(20), "t", 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rep.In != 30 || rep.Dropped != 20 || rep.Out != 10 || rep.Errors != 0 || len(rep.Samples) != 30 {
		t.Errorf("report %+v", rep)
	}
	if got := len(r.values("t")); got != 30 {
		t.Errorf("the topic has %d records after the dry run", got)
	}
	if _, err := r.TestPlugin(t.Context(), "nobody", nil, "t", 1, nil); !errors.Is(err, ErrNoPlugin) {
		t.Errorf("unknown plugin: %v", err)
	}
}

// BenchmarkIngest is the path from a front end's slice to Done, pipelined, without a network.
func BenchmarkIngest(b *testing.B) {
	for _, plugin := range []bool{false, true} {
		b.Run(fmt.Sprintf("plugin=%v", plugin), func(b *testing.B) {
			r := open(b, Options{Routes: []Route{{MQTT: "#", Topic: "t"}}, Topics: []TopicSpec{{Name: "t", Partitions: 4}}})
			if plugin {
				r.attach("id", builtin.Identity(), AttachSpec{Topic: "t"})
			}
			const slice, flying = 100, 16
			free := make(chan *Ingest, flying)
			value := strings.Repeat("x", 200)
			for i := range flying {
				in := &Ingest{Done: func(in *Ingest) { free <- in }}
				target, err := r.Target(b.Context(), fmt.Sprintf("device/%d", i))
				if err != nil {
					b.Fatal(err)
				}
				payload := message(target, value)
				for range slice {
					in.Items = append(in.Items, Item{Target: target, Record: batch.Record{Payload: payload}})
				}
				free <- in
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				in := <-free
				if in.Err != nil {
					b.Fatal(in.Err)
				}
				if err := r.Ingest(b.Context(), in); err != nil {
					b.Fatal(err)
				}
				n += slice
			}
			for range flying {
				<-free
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// trapOn is a plugin that passes records on, but traps when the value (behind a key of one byte) begins as word does.
func trapOn(word string) []byte {
	m := asm.NewRedpanda()
	return m.Finish(0,
		asm.I32Const(asm.RecordBuffer+3), asm.I32Load8U(0), asm.I32Const(int32(word[0])), asm.I32Eq, asm.If, asm.Unreachable, asm.End,
		m.Emit(asm.I32Const(asm.RecordBuffer), asm.LocalGet(asm.RecordSize)))
}
