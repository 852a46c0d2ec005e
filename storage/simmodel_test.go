package storage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"rivulet/storage/batch"
)

// simRecord is one record as a reader sees it.
type simRecord struct {
	key    string // "": it has none
	value  string
	tomb   bool // it has no value
	ts     int64
	txn    int64 // producer of the transaction that it belongs to, -1 for none
	marker string
	lost   bool // was in a frame that was damaged: its offset is a gap
}

// simPart is one partition; a record's index is its offset.
type simPart struct {
	recs    []simRecord
	start   int64           // the log begins here or behind it:
	limit   int64           // as far as a trim without an answer would have moved it,
	fades   bool            // or retention, which stops at the last stable offset
	open    map[int64]int64 // producer → first offset of its transaction
	aborted []Aborted
	prods   map[int64]*simProducer
	born    []int64 // of each record: simRoom.now before it was sent
	id      uint32
	policy  Policy // of its topic
	compact bool   // compaction may thin it out
	room    *simRoom
}

// simProducer is what the store must remember of a producer.
type simProducer struct {
	epoch  int16
	next   int32 // sequence
	recent []seqRange
}

// simModel is what a store must hold.
type simModel struct {
	topics   map[string][]uint32
	parts    map[uint32]*simPart
	kv       map[string]string // space, 0, key
	nextPart uint32            // partition ids from here on were never used
	reborn   bool              // a topic was deleted and created again
	deleted  map[string]bool
	room     *simRoom
}

func newSimModel() *simModel {
	return &simModel{topics: map[string][]uint32{}, parts: map[uint32]*simPart{}, kv: map[string]string{}, deleted: map[string]bool{}, room: &simRoom{}}
}

func (m *simModel) clone() *simModel {
	c := &simModel{topics: maps.Clone(m.topics), parts: map[uint32]*simPart{}, kv: maps.Clone(m.kv), nextPart: m.nextPart, reborn: m.reborn, deleted: maps.Clone(m.deleted), room: m.room}
	for id, p := range m.parts {
		copied := *p
		q := &copied
		q.recs, q.born, q.aborted = slices.Clip(p.recs), slices.Clip(p.born), slices.Clip(p.aborted)
		q.open, q.prods = maps.Clone(p.open), map[int64]*simProducer{}
		for pid, pr := range p.prods {
			q.prods[pid] = &simProducer{epoch: pr.epoch, next: pr.next, recent: slices.Clone(pr.recent)}
		}
		c.parts[id] = q
	}
	return c
}

// simOp is one thing that was asked of the store: a commit, or a change of topics.
type simOp struct {
	n       int
	appends []simAppend
	puts    []Put
	prod    *simBatch
	urgent  bool
	born    int64 // simRoom.now before it was sent

	topic  string // created or deleted, with so many partitions
	create int
	config map[string]string
	ids    []uint32 // of the new partitions, when known

	c    *Commit
	done chan struct{}
	err  error
}

type simAppend struct {
	part   uint32
	recs   []simRecord
	codec  batch.Codec // of a whole batch; -1: records
	marker *Marker
}

// simBatch is one batch of an idempotent or transactional producer.
type simBatch struct {
	part  uint32
	pid   int64
	epoch int16
	seq   int32
	n     int32
	txn   bool
}

// apply changes the model as the store must have changed. The frame that held it was damaged: records and values are lost.
func (m *simModel) apply(op *simOp, recsLost, kvLost bool) {
	if op.topic != "" {
		m.applyTopic(op)
		return
	}
	base := int64(-1)
	for i := range op.appends {
		a := &op.appends[i]
		p := m.parts[a.part]
		at := int64(len(p.recs))
		if i == 0 {
			base = at
		}
		if a.marker != nil {
			p.end(a.marker, at)
			p.born = append(p.born, op.born)
			continue
		}
		for _, r := range a.recs {
			r.lost = recsLost
			p.recs, p.born = append(p.recs, r), append(p.born, op.born)
		}
		if op.prod != nil && op.prod.txn {
			if _, open := p.open[op.prod.pid]; !open {
				p.open[op.prod.pid] = at
			}
		}
	}
	if b := op.prod; b != nil {
		p := m.parts[b.part]
		pr := p.prods[b.pid]
		if pr == nil {
			pr = &simProducer{}
			p.prods[b.pid] = pr
		}
		if b.epoch > pr.epoch {
			pr.epoch, pr.recent = b.epoch, nil
		}
		pr.next = seqAfter(b.seq, b.n)
		pr.recent = append(pr.recent, seqRange{b.seq, seqAfter(b.seq, b.n-1), base})
		pr.recent = pr.recent[max(0, len(pr.recent)-keepBatches):]
	}
	if kvLost {
		return
	}
	for _, p := range op.puts {
		if p.Value == nil {
			delete(m.kv, p.Space+"\x00"+p.Key)
		} else {
			m.kv[p.Space+"\x00"+p.Key] = string(p.Value)
		}
	}
}

func (p *simPart) end(mk *Marker, at int64) {
	what := "abort"
	if mk.Commit {
		what = "commit"
	}
	p.recs = append(p.recs, simRecord{marker: what, txn: mk.ProducerID})
	if first, open := p.open[mk.ProducerID]; open {
		delete(p.open, mk.ProducerID)
		if !mk.Commit {
			p.aborted = append(p.aborted, Aborted{ProducerID: mk.ProducerID, FirstOffset: first, LastOffset: at})
		}
	}
}

func (m *simModel) applyTopic(op *simOp) {
	if op.create == 0 {
		for _, id := range m.topics[op.topic] {
			delete(m.parts, id)
		}
		delete(m.topics, op.topic)
		m.deleted[op.topic] = true
		return
	}
	for _, id := range op.ids {
		policy := ParsePolicy(op.config)
		m.parts[id] = &simPart{
			id: id, room: m.room,
			open: map[int64]int64{}, prods: map[int64]*simProducer{}, policy: policy, compact: policy.Compact,
			fades: policy.Delete && (op.config["retention.ms"] != "" || op.config["retention.bytes"] != ""),
		}
		m.nextPart = max(m.nextPart, id+1)
	}
	m.topics[op.topic] = op.ids
	m.reborn = m.reborn || m.deleted[op.topic]
}

// trim forgets lost records at the end of each log where the store did: it gives their offsets out again, unless a checkpoint
// told it where the log ended.
func (m *simModel) trim(st *simState) {
	for id, p := range m.parts {
		got := st.parts[id]
		for n := len(p.recs); n > 0 && p.recs[n-1].lost && got != nil && int64(n) > got.high; n-- {
			p.recs, p.born = p.recs[:n-1], p.born[:n-1]
		}
	}
}

// simState is what a store holds, as its readers see it.
type simState struct {
	topics map[string][]uint32
	parts  map[uint32]*simPartState
	kv     map[string]string
}

type simPartState struct {
	start, stable, high int64
	recs                []simRead
	open                map[int64]int64
	aborted             []Aborted
}

type simRead struct {
	offset int64
	simRecord
}

// readState reads all of a store; step is how much is asked for at a time.
func readState(s *Store, step int) (*simState, error) {
	st := &simState{topics: map[string][]uint32{}, parts: map[uint32]*simPartState{}, kv: map[string]string{}}
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			st.topics[t.Name] = append(st.topics[t.Name], p.ID)
			ps := &simPartState{open: p.OpenTxns()}
			ps.start, ps.stable, ps.high = p.Offsets()
			ps.aborted = p.Aborted(0, ps.high)
			st.parts[p.ID] = ps
			for from := ps.start; from < ps.high; {
				batches, err := p.Read(from, ps.high, step)
				if err != nil {
					return nil, fmt.Errorf("read partition %d at %d: %w", p.ID, from, err)
				}
				if len(batches) == 0 {
					break // a hole up to the end, or an error that the comparison finds
				}
				for _, b := range batches {
					recs, next, err := readBatchOf(b)
					if err != nil {
						return nil, fmt.Errorf("read partition %d at %d: %w", p.ID, from, err)
					}
					// The log may start within a batch.
					ps.recs = append(ps.recs, slices.DeleteFunc(recs, func(r simRead) bool { return r.offset < ps.start })...)
					from = next
				}
			}
		}
	}
	for _, space := range simSpaces {
		last := ""
		err := s.Scan(space, "", func(key string, value []byte) bool {
			if key <= last {
				panic(fmt.Sprintf("scan: %q behind %q", key, last))
			}
			last = key
			st.kv[space+"\x00"+key] = string(value)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return st, nil
}

func readBatchOf(b []byte) (recs []simRead, next int64, err error) {
	if err := batch.Check(b); err != nil {
		return nil, 0, err
	}
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return nil, 0, err
	}
	h := d.Header()
	for {
		r, ok := d.Next()
		if !ok {
			break
		}
		rec := simRead{offset: r.Offset, simRecord: simRecord{
			key: string(r.Payload.Key()), value: string(r.Payload.Value()), tomb: r.Payload.Value() == nil, ts: r.Timestamp, txn: -1,
		}}
		if h.Transactional() {
			rec.txn = h.ProducerID
		}
		if h.Control() {
			commit, err := batch.IsCommit(b)
			if err != nil {
				return nil, 0, err
			}
			rec.key, rec.value, rec.tomb, rec.ts, rec.marker = "", "", false, 0, "abort"
			if commit {
				rec.marker = "commit"
			}
		}
		recs = append(recs, rec)
	}
	return recs, h.NextOffset(), d.Err()
}

// compare says how a store differs from the model; nil when it does not.
func (m *simModel) compare(st *simState) error {
	names := slices.Sorted(maps.Keys(m.topics))
	if got := slices.Sorted(maps.Keys(st.topics)); !slices.Equal(names, got) {
		return fmt.Errorf("topics are %v, want %v", got, names)
	}
	for _, name := range names {
		if !slices.Equal(m.topics[name], st.topics[name]) {
			return fmt.Errorf("topic %s has partitions %v, want %v", name, st.topics[name], m.topics[name])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.parts)) {
		got := st.parts[id]
		if got == nil {
			return fmt.Errorf("partition %d is missing", id)
		}
		if err := m.parts[id].compare(got, m.room.now()); err != nil {
			return fmt.Errorf("partition %d: %w", id, err)
		}
	}
	for k, v := range m.kv {
		got, ok := st.kv[k]
		if !ok || got != v {
			return fmt.Errorf("key %q is %.40q (%v), want %.40q", k, got, ok, v)
		}
	}
	for k := range st.kv {
		if _, ok := m.kv[k]; !ok {
			return fmt.Errorf("key %q should not be there", k)
		}
	}
	return nil
}

// begins takes the log starts that a store shows, since none of them may go back.
func (m *simModel) begins(st *simState) {
	for id, p := range m.parts {
		if got := st.parts[id]; got != nil {
			p.start = got.start
		}
	}
}

// stable is the last stable offset.
func (p *simPart) stable() int64 {
	stable := int64(len(p.recs))
	for _, first := range p.open {
		stable = min(stable, first)
	}
	return stable
}

// compareLog holds what was read from offset start on against the log; clock is simRoom.now.
func (p *simPart) compareLog(start int64, got []simRead, clock int64) error {
	if p.compact {
		return p.compareCompacted(start, got, clock)
	}
	return compareRecords(start, p.recs, got)
}

func (p *simPart) compare(got *simPartState, clock int64) error {
	if err := p.compareLog(got.start, got.recs, clock); err != nil {
		return err
	}
	stable := p.stable()
	limit := max(p.start, p.limit)
	if p.fades {
		limit = max(limit, stable)
	}
	if p.room.drops(p.policy) {
		limit = max(limit, min(stable, p.room.needed(p.id, p.policy)))
	}
	for limit < int64(len(p.recs)) && p.recs[limit].lost { // without its first records a log starts behind them
		limit++
	}
	past := func(a Aborted) bool { return a.LastOffset < got.start } // kept or not
	got.aborted = slices.DeleteFunc(slices.Clone(got.aborted), past)
	aborted := slices.DeleteFunc(slices.Clone(p.aborted), past)
	switch {
	case got.start < p.start || got.start > limit:
		return fmt.Errorf("log start %d, want %d to %d", got.start, p.start, limit)
	case got.high != int64(len(p.recs)):
		return fmt.Errorf("high watermark %d, want %d", got.high, len(p.recs))
	case got.stable != stable:
		return fmt.Errorf("last stable offset %d, want %d", got.stable, stable)
	case !maps.Equal(got.open, p.open):
		return fmt.Errorf("open transactions %v, want %v", got.open, p.open)
	case !slices.Equal(got.aborted, aborted):
		return fmt.Errorf("aborted transactions %v, want %v", got.aborted, aborted)
	}
	return nil
}

var (
	errNotTheLog = errors.New("log differs")
	errNotClean  = errors.New("compaction left something")
)

// compareRecords finds holes, duplicates, and records that changed places, from offset start on.
func compareRecords(start int64, want []simRecord, got []simRead) error {
	at := 0
	for offset, w := range want {
		if w.lost || int64(offset) < start {
			continue
		}
		switch {
		case at == len(got):
			return fmt.Errorf("%w: ends before offset %d (%.40q)", errNotTheLog, offset, w.value)
		case got[at].offset != int64(offset):
			return fmt.Errorf("%w: offset %d (%.40q) where %d (%.40q) should be", errNotTheLog, got[at].offset, got[at].value, offset, w.value)
		case got[at].simRecord != w:
			return fmt.Errorf("%w: offset %d is %+.80v, want %+.80v", errNotTheLog, offset, got[at].simRecord, w)
		}
		at++
	}
	if at < len(got) {
		return fmt.Errorf("%w: offset %d (%.40q) behind its end at %d", errNotTheLog, got[at].offset, got[at].value, len(want))
	}
	return nil
}

// compareFrames holds the frames that a store still has against its log: the same records, in order, every frame once. seqs
// says which frame acknowledged what.
func compareFrames(s *Store, m *simModel, step int, seqOf map[string]uint64) error {
	q := &Query{Labels: []uint32{uint32(step)%40 | 0xff000000, uint32(step+13)%40 | 0xff000000, 100 + uint32(step)%7}}
	some, err := queried(s, q, step) // before: records may go meanwhile, and do not come
	if err != nil {
		return err
	}
	got := map[uint32][]simRead{}
	after := uint64(0)
	for {
		frames, err := s.Frames(after, step)
		if err != nil {
			return fmt.Errorf("frames behind %d: %w", after, err)
		}
		if len(frames) == 0 {
			break
		}
		for _, f := range frames {
			if f.Seq <= after {
				return fmt.Errorf("frame %d behind frame %d", f.Seq, after)
			}
			after = f.Seq
			for _, b := range f.Batches {
				recs, _, err := readBatchOf(b.Data)
				if err != nil {
					return fmt.Errorf("frame %d: %w", f.Seq, err)
				}
				start, _, _ := b.Partition.Offsets() // what is before it, or of a deleted topic, may come or not
				known := s.o.Labels.Of != nil && s.topicOf(b.Partition.ID) != ""
				for _, r := range recs {
					if want, ok := seqOf[r.value]; ok && r.value != "" && want != f.Seq {
						return fmt.Errorf("%.40q is in frame %d, was acknowledged in %d", r.value, f.Seq, want)
					}
					payload := batch.AppendPayload(nil, nil, []byte(r.value), nil)
					if r.offset >= start && known && q.asks("", payload) && !some[b.Partition.ID][r.offset] {
						return fmt.Errorf("%w: %.40q, offset %d of partition %d, is not found by its labels", errNotTheLog, r.value, r.offset, b.Partition.ID)
					}
				}
				got[b.Partition.ID] = append(got[b.Partition.ID], recs...)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.parts)) {
		p := m.parts[id]
		recs := slices.DeleteFunc(got[id], func(r simRead) bool { return r.offset < p.start })
		if err := p.compareLog(p.start, recs, m.room.now()); err != nil {
			return fmt.Errorf("frames: partition %d: %w", id, err)
		}
	}
	return nil
}

// queried lists the offsets that a query finds, by partition. None may come twice, or out of its order.
func queried(s *Store, q *Query, step int) (map[uint32]map[int64]bool, error) {
	out := map[uint32]map[int64]bool{}
	for after := uint64(0); ; {
		frames, reached, err := s.FramesFor(after, step, q)
		if err != nil {
			return nil, fmt.Errorf("query behind %d: %w", after, err)
		}
		if len(frames) == 0 && reached <= after {
			return out, nil
		}
		for _, f := range frames {
			if f.Seq <= after || f.Seq > reached && s.o.Labels.Of != nil {
				return nil, fmt.Errorf("query: frame %d behind frame %d, up to %d", f.Seq, after, reached)
			}
			after = f.Seq
			for _, b := range f.Batches {
				recs, _, err := readBatchOf(b.Data)
				if err != nil {
					return nil, fmt.Errorf("query: frame %d: %w", f.Seq, err)
				}
				of := out[b.Partition.ID]
				if of == nil {
					of = map[int64]bool{}
					out[b.Partition.ID] = of
				}
				for _, r := range recs {
					if of[r.offset] {
						return nil, fmt.Errorf("query: offset %d of partition %d came twice", r.offset, b.Partition.ID)
					}
					of[r.offset] = true
				}
			}
		}
		after = reached
	}
}

// commit makes the store's form of op.
func (op *simOp) commit(part func(id uint32) *Partition) *Commit {
	c := &Commit{Puts: op.puts, Urgent: op.urgent}
	for i := range op.appends {
		a := &op.appends[i]
		out := Append{Partition: part(a.part), Marker: a.marker}
		switch {
		case a.marker != nil:
		case a.codec >= 0:
			out.Batch = op.batch(a)
		default:
			for _, r := range a.recs {
				out.Records = append(out.Records, batch.Record{Timestamp: r.ts, Payload: r.payload()})
			}
		}
		c.Appends = append(c.Appends, out)
	}
	if b := op.prod; b != nil {
		c.Producer = &Producer{Partition: part(b.part), ID: b.pid, Epoch: b.epoch, BaseSequence: b.seq, Records: b.n, Transactional: b.txn}
	}
	return c
}

func (op *simOp) batch(a *simAppend) []byte {
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, r := range a.recs {
		w.Add(r.ts, r.payload())
	}
	var b []byte
	if p := op.prod; p != nil {
		attrs := int16(0)
		if p.txn {
			attrs = batch.AttrTransactional
		}
		b = w.End(attrs, p.pid, p.epoch, p.seq)
	} else {
		b = w.End(0, -1, -1, -1)
	}
	var comp batch.Compressor
	out, err := comp.Compress(nil, b, a.codec)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}
