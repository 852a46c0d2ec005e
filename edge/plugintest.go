package edge

import (
	"context"
	"fmt"
	"sync"

	"rivulet/plugins"
	"rivulet/storage/batch"
)

// TestReport is the outcome of a dry run.
type TestReport struct {
	In             int          `json:"in"`
	Out            int          `json:"out"`
	Dropped        int          `json:"dropped"`
	Errors         int          `json:"errors"`
	NanosPerRecord int64        `json:"ns_per_record"`
	FuelPerRecord  int64        `json:"fuel_per_record"`
	MemoryBytes    int64        `json:"memory_bytes"`
	Log            []string     `json:"log,omitempty"`
	Samples        []TestSample `json:"samples"`
}

// TestSample is one input record and what came of it.
type TestSample struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	In        string   `json:"in"`
	Out       []string `json:"out,omitempty"`
	Topics    []string `json:"topics,omitempty"` // of Out; "" is the input topic
	Error     string   `json:"error,omitempty"`
	Dropped   bool     `json:"dropped,omitempty"`
}

// maxSamples bounds a report; maxTest the records it runs over.
const (
	maxSamples = 100
	maxTest    = 100000
)

// TestPlugin runs a stored plugin (or wasm, when it is not nil) over the last n records of a topic and keeps nothing.
// Errors: ErrNoPlugin, ErrNoTopic, plugins.ErrModule.
func (b *Broker) TestPlugin(ctx context.Context, name string, wasm []byte, topic string, n int, set map[string]string) (*TestReport, error) {
	t, ok := b.store.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("test plugin on %s: %w", topic, ErrNoTopic)
	}
	defer func() {
		b.mu.Lock()
		b.sweepHost()
		b.mu.Unlock()
	}()
	rep := &TestReport{Samples: []TestSample{}}
	var logMu sync.Mutex
	att, err := b.attachForTest(ctx, name, wasm, plugins.AttachOptions{
		Name: name, Input: topic, Env: set, Lanes: 1,
		Log: func(_ bool, line string) {
			logMu.Lock()
			defer logMu.Unlock()
			if len(rep.Log) < maxSamples {
				rep.Log = append(rep.Log, line)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	n = min(max(n, 1), maxTest)
	for i, p := range t.Partitions {
		share := n / len(t.Partitions)
		if i < n%len(t.Partitions) {
			share++
		}
		if err := b.testPartition(ctx, rep, att, p, share); err != nil {
			_ = att.Close(ctx)
			return nil, err
		}
	}
	st := att.Stats()
	rep.MemoryBytes = st.MemoryBytes
	if rep.In > 0 {
		rep.NanosPerRecord, rep.FuelPerRecord = int64(st.Nanos)/int64(rep.In), int64(st.FuelUsed)/int64(rep.In)
	}
	return rep, att.Close(ctx)
}

// CheckPlugin starts a module as it would be attached, and ends it again: whether PushPlugin and AttachPlugin would take it. Errors:
// plugins.ErrModule, ErrInvalidConfig.
func (b *Broker) CheckPlugin(ctx context.Context, wasm []byte, a AttachSpec) error {
	a.defaults()
	if err := a.check(); err != nil {
		return err
	}
	att, err := b.attachForTest(ctx, a.Plugin, wasm, plugins.AttachOptions{
		Name: a.Plugin, Input: a.Topic, Outputs: a.Outputs, Env: a.Set, OnError: a.OnError, Lanes: 1,
	})
	if err == nil {
		err = att.Close(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweepHost()
	return err
}

// attachForTest starts a plugin beside the pipelines.
func (b *Broker) attachForTest(ctx context.Context, name string, wasm []byte, o plugins.AttachOptions) (*plugins.Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wasm == nil {
		p := b.plugins[name]
		if p == nil {
			return nil, fmt.Errorf("test plugin %s: %w", name, ErrNoPlugin)
		}
		var err error
		if wasm, err = b.readWasm(p.latest().SHA256); err != nil {
			return nil, err
		}
	}
	host, err := b.pluginHost(ctx)
	if err != nil {
		return nil, err
	}
	mod, err := host.Compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return host.Attach(ctx, mod, o)
}

// testPartition runs the last n records of one partition.
func (b *Broker) testPartition(ctx context.Context, rep *TestReport, att *plugins.Attachment, p *Partition, n int) error {
	start, stable, _ := p.Offsets()
	from := max(start, stable-int64(n))
	var out plugins.Output
	for from < stable {
		sets, err := p.Read(from, stable, 1<<20)
		if err != nil {
			return fmt.Errorf("read %s/%d at %d: %w", p.Topic(), p.Index, from, err)
		}
		if len(sets) == 0 {
			return nil
		}
		for _, raw := range sets {
			h, err := batch.ParseHeader(raw)
			if err != nil {
				return err
			}
			first := from
			from = h.NextOffset()
			if h.Control() {
				continue
			}
			all, err := decodeAll(raw)
			if err != nil {
				return err
			}
			recs := all[:0]
			for _, r := range all {
				if r.Offset >= first && r.Offset < stable {
					recs = append(recs, r)
				}
			}
			out.Reset()
			if err := att.Process(ctx, 0, recs, &out); err != nil {
				return err
			}
			rep.add(p.Index, recs, out.Results)
		}
	}
	return nil
}

func (rep *TestReport) add(partition int32, recs []batch.Record, results []plugins.Result) {
	for i, r := range recs {
		s := TestSample{Partition: partition, Offset: r.Offset, In: string(r.Payload.Value())}
		for len(results) > 0 && results[0].Source == i {
			res := results[0]
			results = results[1:]
			if res.Kind == plugins.Emitted {
				s.Out = append(s.Out, string(res.Payload.Value()))
				s.Topics = append(s.Topics, res.Topic)
			} else if res.Err != nil {
				s.Error = res.Err.Error()
			}
		}
		rep.In++
		rep.Out += len(s.Out)
		if s.Error != "" {
			rep.Errors++
		} else if len(s.Out) == 0 {
			s.Dropped = true
			rep.Dropped++
		}
		if len(rep.Samples) < maxSamples {
			rep.Samples = append(rep.Samples, s)
		}
	}
}
