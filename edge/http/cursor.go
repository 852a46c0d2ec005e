package http

import (
	"errors"
	"fmt"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// cursor reads the committed records of one partition, in order.
type cursor struct {
	p       *edge.Partition
	at      int64
	decoder batch.Decoder
}

// chunk is how many bytes a cursor asks for at once.
const chunk = 256 << 10

// read gives fn at most limit records that are there now. The record's memory is reused. It stops when fn returns false.
func (c *cursor) read(limit int, fn func(batch.Record) bool) error {
	start, end, _ := c.p.Offsets()
	c.at = max(c.at, start) // retention may have been faster
	for c.at < end && limit > 0 {
		set, aborted, err := c.p.ReadCommitted(c.at, end, chunk)
		if errors.Is(err, edge.ErrOffsetRange) {
			if now, _, _ := c.p.Offsets(); now > c.at {
				c.at = now
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read %s/%d at offset %d: %w", c.p.Topic(), c.p.Index, c.at, err)
		}
		if len(set) == 0 {
			return nil
		}
		for _, b := range set {
			if limit, err = c.batch(b, aborted, limit, fn); err != nil || limit <= 0 {
				return err
			}
		}
	}
	return nil
}

// batch reads one batch and returns how many records may still be read, 0 when fn has enough.
func (c *cursor) batch(b []byte, aborted []edge.Aborted, limit int, fn func(batch.Record) bool) (int, error) {
	if err := c.decoder.Reset(b, 0); err != nil {
		return 0, fmt.Errorf("read %s/%d at offset %d: %w", c.p.Topic(), c.p.Index, c.at, err)
	}
	h := c.decoder.Header()
	if edge.Committed(aborted, h) {
		for r, ok := c.decoder.Next(); ok; r, ok = c.decoder.Next() {
			if r.Offset < c.at {
				continue
			}
			if limit == 0 {
				return 0, nil
			}
			limit--
			c.at = r.Offset + 1
			if !fn(r) {
				return 0, nil
			}
		}
		if err := c.decoder.Err(); err != nil {
			return 0, fmt.Errorf("read %s/%d at offset %d: %w", c.p.Topic(), c.p.Index, c.at, err)
		}
	}
	c.at = h.NextOffset()
	return limit, nil
}

// behind says whether there may be something to read.
func (c *cursor) behind() bool {
	_, end, _ := c.p.Offsets()
	return c.at < end
}
