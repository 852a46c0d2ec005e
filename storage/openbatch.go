package storage

import (
	"fmt"
	"slices"
	"sync"

	"rivulet/storage/batch"
)

// openBatch is a batch whose records are uncompressed. It is immutable but for the index, which find makes when it is first asked.
type openBatch struct {
	h   batch.Header
	raw []byte // the records

	once   sync.Once
	err    error
	at     []uint32 // where each record begins in raw
	labels []uint32 // ascending
	ends   []uint32 // of each label, where its records end in posts
	posts  []uint32 // numbers of records, label by label, ascending
}

// openPlain opens a batch; an uncompressed one is aliased.
func openPlain(dec *batch.Decoder, b []byte) (*openBatch, error) {
	if err := dec.Reset(b, 0); err != nil {
		return nil, err
	}
	o := &openBatch{h: dec.Header(), raw: dec.Raw()}
	if o.h.Codec() != batch.None {
		o.raw = slices.Clone(o.raw)
	}
	return o, nil
}

// indexSize is what the index takes, about.
func (o *openBatch) indexSize() int64 { return 24*int64(o.h.NumRecords) + 256 }

// whole reports whether a reader gets all of it or nothing: a transaction, and what ends one.
func (o *openBatch) whole() bool { return o.h.Transactional() || o.h.Control() }

// find lists the records that have one of the labels, ascending.
func (o *openBatch) find(of Labels, topic string, labels []uint32) ([]uint32, error) {
	o.once.Do(func() { o.err = o.index(of, topic) })
	if o.err != nil {
		return nil, o.err
	}
	var found []uint32
	lists := 0
	for _, l := range labels {
		i, ok := slices.BinarySearch(o.labels, l)
		if !ok {
			continue
		}
		from := uint32(0)
		if i > 0 {
			from = o.ends[i-1]
		}
		found = append(found, o.posts[from:o.ends[i]]...)
		lists++
	}
	if lists > 1 {
		slices.Sort(found)
		found = slices.Compact(found)
	}
	return found, nil
}

// index notes where the records are, and which have what labels.
func (o *openBatch) index(of Labels, topic string) error {
	var dec batch.Decoder
	dec.Records(o.h, o.raw, o.h.NumRecords)
	o.at = make([]uint32, 0, o.h.NumRecords)
	pairs := make([]uint64, 0, 3*int(o.h.NumRecords)) // label, record
	var labels []uint32
	for {
		at := len(o.raw) - len(dec.Raw())
		r, ok := dec.Next()
		if !ok {
			break
		}
		labels = of.Of(labels[:0], topic, r.Payload)
		for _, l := range labels {
			pairs = append(pairs, uint64(l&labelMask)<<32|uint64(len(o.at)))
		}
		o.at = append(o.at, uint32(at))
	}
	if err := dec.Err(); err != nil {
		return err
	}
	slices.Sort(pairs)
	pairs = slices.Compact(pairs)
	o.posts = make([]uint32, len(pairs))
	for i, p := range pairs {
		l := uint32(p >> 32)
		if n := len(o.labels); n == 0 || o.labels[n-1] != l {
			o.labels, o.ends = append(o.labels, l), append(o.ends, 0)
		}
		o.posts[i], o.ends[len(o.ends)-1] = uint32(p), uint32(i+1)
	}
	return nil
}

// recordReader reads single records of open batches.
type recordReader struct{ dec batch.Decoder }

func (r *recordReader) read(o *openBatch, n uint32) (batch.Record, error) {
	r.dec.Records(o.h, o.raw[o.at[n]:], 1)
	rec, ok := r.dec.Next()
	if !ok {
		return rec, fmt.Errorf("%w: record %d of a batch", ErrCorrupt, n)
	}
	return rec, nil
}

// cut makes a plain batch of some records of a batch that is not whole; nil of none.
func (o *openBatch) cut(records []uint32) ([]byte, error) {
	var read recordReader
	var build batch.Builder
	base := int64(0)
	for i, n := range records {
		r, err := read.read(o, n)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			base = r.Offset
			build.Begin(nil, base, o.h.LeaderEpoch)
		}
		build.AddAt(int32(r.Offset-base), r.Timestamp, r.Payload)
	}
	if len(records) == 0 {
		return nil, nil
	}
	return build.End(0, -1, -1, -1), nil
}
