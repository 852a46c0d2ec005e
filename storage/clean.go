package storage

import (
	"rivulet/storage/batch"
)

// cleaner thins out batches for compaction. It reuses the buffer that it decompresses into.
type cleaner struct {
	dec   batch.Decoder
	build batch.Builder
	start int64 // the log's
}

// cleaned is what became of a batch.
type cleaned struct {
	batch      []byte // nil: nothing is left; else the batch itself, or a new one
	kept       int    // records
	left       int    // bytes of their payloads
	removed    int    // records
	dropped    int    // of these, those that the log start had not passed
	tombstones bool   // some were kept
}

// clean asks keep about each record of b. The first and the last offset of a batch stay what they were (Kafka's rule: a reader
// that was promised offsets up to there goes on behind them), also its producer; what is left is encoded without compression.
func (c *cleaner) clean(b []byte, keep func(r batch.Record) bool) (cleaned, error) {
	res := cleaned{batch: b}
	if err := c.look(b, keep, &res); err != nil || res.removed == 0 {
		return res, err
	}
	if res.kept == 0 {
		res.batch = nil
		return res, nil
	}
	if err := c.dec.Reset(b, 0); err != nil {
		return res, err
	}
	h := c.dec.Header()
	c.build.Begin(make([]byte, 0, batch.HeaderSize+res.left+16*res.kept), h.BaseOffset, h.LeaderEpoch)
	for {
		r, ok := c.dec.Next()
		if !ok {
			break
		}
		if keep(r) {
			c.build.AddAt(int32(r.Offset-h.BaseOffset), r.Timestamp, r.Payload)
		}
	}
	if err := c.dec.Err(); err != nil {
		return res, err
	}
	res.batch = c.build.EndAt(h.Attributes, h.ProducerID, h.ProducerEpoch, h.BaseSequence, h.LastOffsetDelta)
	return res, nil
}

// look counts what clean would keep and remove.
func (c *cleaner) look(b []byte, keep func(r batch.Record) bool, res *cleaned) error {
	if err := c.dec.Reset(b, 0); err != nil {
		return err
	}
	for {
		r, ok := c.dec.Next()
		if !ok {
			return c.dec.Err()
		}
		if !keep(r) {
			res.removed++
			if r.Offset >= c.start {
				res.dropped++
			}
			continue
		}
		res.kept++
		res.left += len(r.Payload)
		res.tombstones = res.tombstones || r.Payload.Value() == nil
	}
}
