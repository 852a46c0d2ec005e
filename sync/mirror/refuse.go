package mirror

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// refused deals with records that the centre does not take, so that they cannot hold up their lane for ever: a batch that is too
// large is cut, a codec that is not known there is changed, and the very records at fault are dead-lettered here. Which they are
// the centre may say; otherwise the batch is sent again in smaller and smaller pieces. It returns an error when no progress is
// possible, which is tried again after a pause.
func (u *Uplink) refused(ctx context.Context, r *refusal) error {
	p := r.parcel
	l := p.lane
	switch r.err {
	case kerr.MessageTooLarge, kerr.RecordListTooLarge:
		if p.records > 1 {
			// One batch per partition is what Kafka bounds. The bound is learnt, and kept for the topic.
			l.target.maxBytes = min(l.target.maxBytes, max(len(p.data)/2, 1))
			u.o.Log.Info("centre refuses a batch as too large; sending smaller ones", "topic", l.target.name, "bytes", len(p.data), "bound", l.target.maxBytes)
			return nil
		}
	case kerr.UnsupportedCompressionType:
		if !l.target.recode {
			l.target.recode = true
			return nil
		}
		u.bar(l.target, -1, fmt.Sprintf("topic %s at the centre does not take lz4: %s", l.target.name, r.text))
		return r
	case kerr.CorruptMessage:
		// Perhaps it was damaged on its way: only what is refused again and again is at fault.
		const tries = 3
		if l.corrupt != p.from {
			l.corrupt, l.corruptions = p.from, 0
		}
		if l.corruptions++; l.corruptions < tries {
			return r
		}
	}
	indexes := make(map[int32]bool)
	for _, i := range r.records {
		if i >= 0 && i < p.records {
			indexes[i] = true
		}
	}
	switch {
	case p.records == 1:
		indexes[0] = true
	case len(indexes) == 0:
		n := (int(p.records) + 1) / 2
		l.suspect = &suspect{p.from, p.next, n}
		return nil
	}
	bad, err := u.find(p, indexes)
	if err != nil {
		return err
	}
	return u.deadLetter(ctx, p, r.text, bad)
}

// find returns the offsets of records of a parcel, by their index in it. It is an error when the log has lost some since: an index would
// mean another record then.
func (u *Uplink) find(p *parcel, indexes map[int32]bool) (ranges, error) {
	var offsets ranges
	n := int32(0)
	err := u.walk(p.lane, p.from, p.next, func(r batch.Record) error {
		if indexes[n] {
			offsets = offsets.add(r.Offset)
		}
		n++
		return nil
	})
	if err == nil && n != p.records {
		err = fmt.Errorf("dead-letter records of %s/%d: of %d records from offset %d, %d are left", p.lane.topic, p.lane.index, p.records, p.from, n)
	}
	return offsets, err
}

// deadLetter copies records of a parcel into the topic's dead-letter topic here, with the note to leave them out from now on in the same
// frame.
func (u *Uplink) deadLetter(ctx context.Context, p *parcel, why string, bad ranges) error {
	l := p.lane
	store := u.o.Broker.Store()
	var dlq *edge.Partition
	if !isDeadLetters(l.topic) { // a dead letter is kept already
		t, err := u.o.Broker.EnsureTopic(ctx, l.topic+".dlq")
		if err != nil {
			return fmt.Errorf("dead-letter records of %s/%d: %w", l.topic, l.index, err)
		}
		dlq = t.Partitions[int(l.index)%len(t.Partitions)]
	}
	skips := append(ranges(nil), l.skips...)
	var letters []batch.Record
	var size int
	commit := func() error {
		c := &edge.Commit{Puts: []edge.Put{{Space: space, Key: u.skipKey(l.src.ID), Value: skips.encode()}}, Urgent: dlq == nil}
		if dlq != nil {
			c.Appends = []edge.Append{{Partition: dlq, Records: letters}}
		}
		if err := store.Do(ctx, c); err != nil {
			return fmt.Errorf("dead-letter records of %s/%d: %w", l.topic, l.index, err)
		}
		l.skips = append(ranges(nil), skips...)
		letters, size = letters[:0], 0
		return nil
	}
	var count uint64
	err := u.walk(l, p.from, p.next, func(r batch.Record) error {
		if bad = bad.from(r.Offset); !bad.has(r.Offset) {
			return nil
		}
		headers := r.Payload.Headers(nil)
		headers = append(headers,
			batch.KV{Key: "rivulet.error", Value: []byte(why)},
			batch.KV{Key: "rivulet.source", Value: []byte(l.topic + "/" + strconv.Itoa(int(l.index)) + "/" + strconv.FormatInt(r.Offset, 10))},
			batch.KV{Key: "rivulet.uplink", Value: []byte(u.o.Name)})
		letter := batch.AppendPayload(nil, r.Payload.Key(), r.Payload.Value(), headers)
		letters = append(letters, batch.Record{Timestamp: r.Timestamp, Payload: letter})
		skips = skips.add(r.Offset)
		count++
		if size += len(letter); size < 1<<20 {
			return nil
		}
		return commit()
	})
	if err == nil && len(letters) > 0 {
		err = commit()
	}
	if err != nil {
		return err
	}
	l.suspect = nil
	l.dead.Add(count)
	u.total.dead.Add(count)
	u.alarm("%d records of %s/%d from offset %d were dead-lettered: %s", count, l.topic, l.index, p.from, why)
	return nil
}

func isDeadLetters(topic string) bool {
	const suffix = ".dlq"
	return len(topic) > len(suffix) && topic[len(topic)-len(suffix):] == suffix
}

// walk calls fn for the records of [from, to) that a parcel of this lane holds, in order.
func (u *Uplink) walk(l *lane, from, to int64, fn func(batch.Record) error) error {
	var dec batch.Decoder // fn may commit and so outlive a buffer of the gatherer's
	_, stable, _ := l.src.Offsets()
	for from < to {
		set, aborted, err := l.read(from, stable, turnBytes)
		if err != nil {
			return err
		}
		if len(set) == 0 {
			return nil
		}
		for _, b := range set {
			h, err := batch.ParseHeader(b)
			if err != nil {
				return fmt.Errorf("read %s/%d: %w", l.topic, l.index, err)
			}
			if edge.Committed(aborted, h) {
				if err := dec.Reset(b, 0); err != nil {
					return fmt.Errorf("decode batch of %s/%d: %w", l.topic, l.index, err)
				}
				for r, ok := dec.Next(); ok; r, ok = dec.Next() {
					if r.Offset < from || r.Offset >= to || l.skips.has(r.Offset) {
						continue
					}
					if err := fn(r); err != nil {
						return err
					}
				}
				if err := dec.Err(); err != nil {
					return fmt.Errorf("decode batch of %s/%d: %w", l.topic, l.index, err)
				}
			}
			from = h.NextOffset()
		}
	}
	return nil
}

// fencedBy reports whether err says that a later producer has our transactional id.
func fencedBy(err error) bool {
	return errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced)
}
