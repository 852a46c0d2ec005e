package main

import (
	"bytes"
	"context"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/sync/compare"
)

// The README's first command.
func TestDemo(t *testing.T) {
	status, out, errs := call(t, "demo", "--for", "1500ms")
	if status != exitDone {
		t.Fatalf("%d: %s\n%s", status, errs, out)
	}
	for _, want := range []string{"console http://127.0.0.1:", "time ", "verdict       equal: "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if errs != "" {
		t.Errorf("it warned:\n%s", errs)
	}
}

// An interrupt ends it like the time does, with a verdict.
func TestDemoInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &cancelAfterRow{cancel: cancel}
	var errs bytes.Buffer
	if status := run(ctx, []string{"demo"}, new(bytes.Buffer), out, &errs); status != exitDone {
		t.Fatalf("%d: %s\n%s", status, errs.String(), out.String())
	}
	if !strings.Contains(out.String(), "verdict       equal: ") {
		t.Errorf("no verdict in\n%s", out.String())
	}
}

// cancelAfterRow interrupts when the table has its first row.
type cancelAfterRow struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (w *cancelAfterRow) Write(p []byte) (int, error) {
	if strings.Contains(string(p), " 1s ") {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// The verdict fails for what may go wrong with a copy: here it is done to what is read from the centre, and last to the
// centre's own log.
func TestDemoVerdictCanFail(t *testing.T) {
	var out, errs bytes.Buffer
	d := &demo{
		p: &program{stdin: new(bytes.Buffer), stdout: &out, stderr: &errs, environ: os.Environ()}, length: 500 * time.Millisecond, every: time.Second, seed: 1,
		copy: readCentral,
	}
	defer func() {
		if err := d.stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := d.start(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := d.show(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.conclude(t.Context()); err != nil {
		t.Fatalf("untouched: %v\n%s", err, out.String())
	}
	for name, change := range map[string]func([]compare.Record) []compare.Record{
		"1 holes":      func(r []compare.Record) []compare.Record { return slices.Delete(r, len(r)/2, len(r)/2+1) },
		"1 duplicates": func(r []compare.Record) []compare.Record { return slices.Insert(r, len(r)/2, r[len(r)/2]) },
		"1 swaps": func(r []compare.Record) []compare.Record {
			i := len(r) / 2
			r[i], r[i+1] = r[i+1], r[i]
			return r
		},
		"1 changed": func(r []compare.Record) []compare.Record { r[len(r)/2].Value[0] = '!'; return r },
	} {
		d.copy = func(ctx context.Context, d *demo, partition int32) iter.Seq2[compare.Record, error] {
			if partition != 2 {
				return readCentral(ctx, d, partition)
			}
			return tampered(readCentral(ctx, d, partition), change)
		}
		out.Reset()
		if err := d.conclude(t.Context()); err == nil || !strings.Contains(err.Error(), "differs") || !strings.Contains(out.String(), name) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}

	d.copy = readCentral
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.central.address("kafka")))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "edge." + demoTopic, Key: []byte("line1"), Value: []byte("from elsewhere")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := d.conclude(t.Context()); err == nil || !strings.Contains(out.String(), "1 strangers") {
		t.Errorf("a stranger at the centre: %v\n%s", err, out.String())
	}
}

func tampered(records iter.Seq2[compare.Record, error], change func([]compare.Record) []compare.Record) iter.Seq2[compare.Record, error] {
	return func(yield func(compare.Record, error) bool) {
		var all []compare.Record
		for r, err := range records {
			if err != nil {
				yield(r, err)
				return
			}
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			headers := slices.Clone(r.Headers)
			for i := range headers {
				headers[i].Value = bytes.Clone(headers[i].Value)
			}
			r.Headers = headers
			all = append(all, r)
		}
		for _, r := range change(all) {
			if !yield(r, nil) {
				return
			}
		}
	}
}
