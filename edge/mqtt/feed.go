package mqtt

import (
	"errors"
	"fmt"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// logReader is how subscribers read the log; tests put faults in.
type logReader struct {
	frames func(after uint64, maxBytes int, q *edge.LogQuery) (frames []edge.Frame, reached uint64, err error)
	read   func(p *edge.Partition, from, limit int64, maxBytes int) ([][]byte, error)
}

func readerOf(b *edge.Broker) logReader {
	return logReader{frames: b.Store().FramesFor, read: (*edge.Partition).Read}
}

// feed turns frames into the records that subscribers may see: those of topics that reach MQTT, with their MQTT topic, and
// those of transactions only once they are committed. A partition with an open transaction is held back from its first
// record on, so that its order is kept.
type feed struct {
	broker *edge.Broker
	read   func(p *edge.Partition, from, limit int64, maxBytes int) ([][]byte, error)
	held   map[*edge.Partition]int64
	late   map[*edge.Partition]struct{} // held although their transactions have ended, since the log could not be read then
	goesOn bool                         // behind an errLog, too: the partition is looked at again with its next batch
	at     int                          // the batch of the frame that it is at
	dec    batch.Decoder
}

func (s *Server) newFeed() feed { return feed{broker: s.broker, read: s.reader.read} }

// visit is called for each record that a frame makes visible; false ends it.
type visit func(p *edge.Partition, topic []byte, r batch.Record) bool

// errLog says that the log could not be read: the frame is not dealt with, and may be tried again.
var errLog = errors.New("cannot read the log")

// maxRaw bounds what a compressed batch may unfold to.
const maxRaw = 64 << 20

// hold forgets what was held and takes the open transactions of now.
func (f *feed) hold(topics []*edge.Topic) {
	clear(f.held)
	clear(f.late)
	for _, t := range topics {
		for _, p := range t.Partitions {
			if _, stable, high := p.Offsets(); stable < high {
				f.keep(p, stable)
			}
		}
	}
}

func (f *feed) keep(p *edge.Partition, offset int64) {
	if f.held == nil {
		f.held = map[*edge.Partition]int64{}
	}
	if _, ok := f.held[p]; !ok {
		f.held[p] = offset
	}
}

// frame calls fn for each record that fr makes visible, until fn returns false. An errLog ends it, too, unless the feed goes on.
func (f *feed) frame(fr *edge.Frame, fn visit) error {
	var failed error
	for i := range fr.Batches {
		f.at = i
		fb := &fr.Batches[i]
		if edge.Internal(fb.Partition.Topic()) {
			continue
		}
		more, err := f.next(fb, fn)
		if err != nil {
			failed = fmt.Errorf("frame %d, %s: %w", fr.Seq, fb.Partition.Topic(), err)
		}
		if !more || errors.Is(err, errLog) && !f.goesOn {
			break
		}
	}
	return failed
}

// next deals with one batch of a frame.
func (f *feed) next(fb *edge.FrameBatch, fn visit) (more bool, err error) {
	h, err := batch.ParseHeader(fb.Data)
	if err != nil {
		return true, err
	}
	p := fb.Partition
	if _, late := f.late[p]; late {
		if more, err := f.visible(p, f.held[p], h.BaseOffset, fn); err != nil || !more {
			return more, err
		}
	}
	if h.Transactional() || h.Control() {
		f.keep(p, h.BaseOffset)
	}
	from, held := f.held[p]
	switch {
	case !held || h.NextOffset() <= from:
		return f.batch(p, fb.Data, h.BaseOffset, h.NextOffset(), fn)
	case h.Control():
		return f.visible(p, from, h.NextOffset(), fn)
	}
	return true, nil
}

// batch calls fn for the records of data with offsets in [from, limit).
func (f *feed) batch(p *edge.Partition, data []byte, from, limit int64, fn visit) (more bool, err error) {
	if err := f.dec.Reset(data, maxRaw); err != nil {
		return true, fmt.Errorf("decode batch: %w", err)
	}
	for {
		r, ok := f.dec.Next()
		if !ok {
			return true, f.dec.Err()
		}
		if r.Offset < from || r.Offset >= limit {
			continue
		}
		if topic := f.broker.MQTTName(p, r.Payload); topic != nil && !fn(p, topic, r) {
			return false, nil
		}
	}
}

// visible is called when a transaction ended in p, with a marker before offset end: it reads the log from what was held back
// up to the last stable offset, but not beyond the marker: that comes with later frames. When the log cannot be read, the partition
// stays held.
func (f *feed) visible(p *edge.Partition, from, end int64, fn visit) (more bool, err error) {
	for {
		start, stable, _ := p.Offsets()
		stable, from = min(stable, end), max(from, start)
		if from >= stable {
			break
		}
		f.held[p] = from
		aborted := p.Aborted(from, stable) // before the log is read: with what retention removes, this is forgotten
		batches, err := f.read(p, from, stable, chunk)
		switch {
		case errors.Is(err, edge.ErrNoTopic):
			from, batches = end, nil
		case errors.Is(err, edge.ErrOffsetRange): // retention was faster
			continue
		case err != nil:
			if f.late == nil {
				f.late = map[*edge.Partition]struct{}{}
			}
			f.late[p] = struct{}{}
			return true, fmt.Errorf("%w from offset %d: %w", errLog, from, err)
		}
		if len(batches) == 0 {
			break
		}
		for _, data := range batches {
			h, err := batch.ParseHeader(data)
			if err != nil {
				return true, fmt.Errorf("read from offset %d: %w", from, err)
			}
			if edge.Committed(aborted, h) {
				more, err := f.batch(p, data, from, stable, func(p *edge.Partition, topic []byte, r batch.Record) bool {
					f.held[p] = r.Offset // so far, for whom this one is too much
					return fn(p, topic, r)
				})
				if err != nil || !more {
					return more, err
				}
			}
			from = max(from, h.NextOffset())
			f.held[p] = from
		}
	}
	delete(f.late, p)
	if from >= end {
		delete(f.held, p)
	}
	return true, nil
}

// stop moves a cursor that stands before frame fr to where the feed is in it: the record at offset of the partition of that batch comes
// next, or, below 0, what is held back.
func (c *cursor) stop(f *feed, fr *edge.Frame, offset int64) {
	done := map[uint32]int64{}
	for i := range fr.Batches[:f.at+1] {
		fb := &fr.Batches[i]
		h, err := batch.ParseHeader(fb.Data)
		if err != nil {
			continue
		}
		if i == f.at {
			// What was held back begins before the batch, and where it is told by what is held.
			if offset >= h.BaseOffset && offset < h.NextOffset() {
				done[fb.Partition.ID] = offset
			}
			break
		}
		if from, held := f.held[fb.Partition]; !held || h.NextOffset() <= from {
			done[fb.Partition.ID] = h.NextOffset()
		}
	}
	for id, offset := range c.done {
		done[id] = max(done[id], offset)
	}
	c.done = done
}
