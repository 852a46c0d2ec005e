package mqtt

import (
	"fmt"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// feed turns frames into the records that subscribers may see: those of topics that reach MQTT, with their MQTT topic, and
// those of transactions only once they are committed. A partition with an open transaction is held back from its first
// record on, so that its order is kept.
type feed struct {
	held map[*edge.Partition]int64
	dec  batch.Decoder
}

// maxRaw bounds what a compressed batch may unfold to.
const maxRaw = 64 << 20

// hold forgets what was held and takes the open transactions of now.
func (f *feed) hold(topics []*edge.Topic) {
	clear(f.held)
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

// frame calls fn for each record that fr makes visible, until fn returns false.
func (f *feed) frame(b *edge.Broker, fr *edge.Frame, fn func(p *edge.Partition, topic []byte, r batch.Record) bool) error {
	for i := range fr.Batches {
		fb := &fr.Batches[i]
		if edge.Internal(fb.Partition.Topic()) {
			continue
		}
		h, err := batch.ParseHeader(fb.Data)
		if err != nil {
			return fmt.Errorf("frame %d, %s: %w", fr.Seq, fb.Partition.Topic(), err)
		}
		if h.Transactional() || h.Control() {
			f.keep(fb.Partition, h.BaseOffset)
		}
		from, held := f.held[fb.Partition]
		more := true
		switch {
		case !held || h.NextOffset() <= from:
			more, err = f.batch(b, fb.Partition, fb.Data, h.BaseOffset, h.NextOffset(), fn)
		case h.Control():
			more, err = f.visible(b, fb.Partition, from, h.NextOffset(), fn)
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// batch calls fn for the records of data with offsets in [from, limit).
func (f *feed) batch(b *edge.Broker, p *edge.Partition, data []byte, from, limit int64, fn func(*edge.Partition, []byte, batch.Record) bool) (more bool, err error) {
	if err := f.dec.Reset(data, maxRaw); err != nil {
		return true, fmt.Errorf("decode batch of %s: %w", p.Topic(), err)
	}
	for {
		r, ok := f.dec.Next()
		if !ok {
			return true, f.dec.Err()
		}
		if r.Offset < from || r.Offset >= limit {
			continue
		}
		if topic := b.MQTTName(p, r.Payload); topic != nil && !fn(p, topic, r) {
			return false, nil
		}
	}
}

// visible is called when a transaction ended in p, with a marker before offset end: it reads the log from what was held back
// up to the last stable offset, but not beyond the marker: that comes with later frames.
func (f *feed) visible(b *edge.Broker, p *edge.Partition, from, end int64, fn func(*edge.Partition, []byte, batch.Record) bool) (more bool, err error) {
	_, stable, _ := p.Offsets()
	stable = min(stable, end)
	for from < stable {
		batches, err := p.Read(from, stable, chunk)
		if err != nil {
			delete(f.held, p)
			return true, fmt.Errorf("read %s from %d: %w", p.Topic(), from, err)
		}
		if len(batches) == 0 {
			break
		}
		aborted := p.Aborted(from, stable)
		for _, data := range batches {
			h, err := batch.ParseHeader(data)
			if err != nil {
				return true, fmt.Errorf("read %s from %d: %w", p.Topic(), from, err)
			}
			if !h.Control() && (!h.Transactional() || !isAborted(aborted, h)) {
				more, err := f.batch(b, p, data, from, stable, func(p *edge.Partition, topic []byte, r batch.Record) bool {
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
	if from >= end {
		delete(f.held, p)
	}
	return true, nil
}

func isAborted(list []edge.Aborted, h batch.Header) bool {
	for _, a := range list {
		if a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset <= a.LastOffset {
			return true
		}
	}
	return false
}

// progress says, by partition, how far frame fr has been dealt with when the record at offset of p comes next.
func (f *feed) progress(fr *edge.Frame, p *edge.Partition, offset int64) map[uint32]int64 {
	done := map[uint32]int64{}
	for i := range fr.Batches {
		fb := &fr.Batches[i]
		h, err := batch.ParseHeader(fb.Data)
		if err != nil {
			continue
		}
		if fb.Partition == p && h.BaseOffset <= offset && offset < h.NextOffset() {
			done[p.ID] = offset
			break
		}
		if _, held := f.held[fb.Partition]; !held {
			done[fb.Partition.ID] = h.NextOffset()
		}
	}
	return done
}
