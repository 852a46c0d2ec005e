package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load reads the coordinator's state. Nothing else uses t yet.
func (t *Txns) load(ctx context.Context) error {
	next, err := t.store.Get(spaceProducers, keyNextID)
	if err != nil {
		return fmt.Errorf("read producer ids: %w", err)
	}
	if next != nil {
		n, err := strconv.ParseInt(string(next), 10, 64)
		if err != nil {
			return fmt.Errorf("read producer ids: %w", err)
		}
		t.ids = idBlock{next: n, end: n}
	}
	var bad error
	now := t.opts.Now()
	err = t.store.Scan(spaceTxns, "", func(id string, value []byte) bool {
		x := newTxn(id)
		if err := json.Unmarshal(value, &x.rec); err != nil {
			bad = fmt.Errorf("transactional id %q: %w", id, err)
			return false
		}
		// What the dates say, unless the clock went back meanwhile.
		x.used = earlier(time.UnixMilli(x.rec.UpdatedMS), now)
		x.due = earlier(time.UnixMilli(x.rec.StartedMS), now).Add(x.rec.timeout())
		t.txns[id] = x
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return fmt.Errorf("read transactional ids: %w", err)
	}
	var strays []Put // that end what is kept of offsets
	err = t.store.Scan(spaceTxnOffsets, "", func(key string, value []byte) bool {
		id, offset, _ := strings.Cut(key, "\x00")
		x := t.txns[id]
		if x == nil || x.rec.State != txnOngoing {
			strays = append(strays, Put{Space: spaceTxnOffsets, Key: key})
			return true
		}
		x.hold([]Put{{Space: spaceOffsets, Key: offset, Value: value}})
		t.pending[offset]++
		return true
	})
	if err != nil {
		return fmt.Errorf("read offsets of transactions: %w", err)
	}
	if err := t.abortStrays(ctx, strays); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.schedule(t.opts.Now().Add(sweepEvery))
	for _, x := range t.txns {
		if x.rec.State == txnOngoing {
			t.schedule(x.due)
		}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// abortStrays ends transactions in the log whose transactional id has none open, and forgets their offsets. Journal and ids are one, so
// there are none, unless a damaged frame was set aside: then they would hold up readers for ever.
func (t *Txns) abortStrays(ctx context.Context, offsets []Put) error {
	ongoing := make(map[int64]bool)
	epochs := make(map[int64]int16)
	for _, x := range t.txns {
		ongoing[x.rec.ProducerID] = x.rec.State == txnOngoing
		epochs[x.rec.ProducerID] = x.rec.Epoch
	}
	c := &Commit{Urgent: true, Puts: offsets}
	if len(offsets) > 0 {
		t.opts.Log.Warn("offsets of transactions without an owner are dropped", "offsets", len(offsets))
	}
	for _, topic := range t.store.Topics() {
		for _, p := range topic.Partitions {
			for pid, first := range p.OpenTxns() {
				if ongoing[pid] {
					continue
				}
				epoch, ok := epochs[pid]
				if !ok {
					epoch = maxEpoch + 1
				}
				t.opts.Log.Warn("transaction without an owner is aborted",
					"topic", topic.Name, "partition", p.Index, "producer", pid, "first", first)
				c.Appends = append(c.Appends, Append{Partition: p, Marker: &Marker{ProducerID: pid, Epoch: epoch}})
			}
		}
	}
	if len(c.Appends) == 0 && len(c.Puts) == 0 {
		return nil
	}
	if err := t.store.Do(ctx, c); err != nil {
		return fmt.Errorf("abort transactions without an owner: %w", err)
	}
	return nil
}

// TxnInfo is a snapshot of one transactional id.
type TxnInfo struct {
	ID         string
	ProducerID int64
	Epoch      int16
	Timeout    time.Duration
	State      string // empty, ongoing, committed, aborted
	Started    time.Time
	Parts      map[string][]int32
}

// List returns all transactional ids, by name.
func (t *Txns) List() []TxnInfo {
	t.mu.Lock()
	all := make([]*txn, 0, len(t.txns))
	for _, x := range t.txns {
		all = append(all, x)
	}
	t.mu.Unlock()
	list := make([]TxnInfo, 0, len(all))
	for _, x := range all {
		list = append(list, x.info())
	}
	slices.SortFunc(list, func(a, b TxnInfo) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Describe returns one transactional id. Errors: ErrTxnNotFound.
func (t *Txns) Describe(id string) (TxnInfo, error) {
	t.mu.Lock()
	x := t.txns[id]
	t.mu.Unlock()
	if x == nil {
		return TxnInfo{}, ErrTxnNotFound
	}
	return x.info(), nil
}

func (x *txn) info() TxnInfo {
	r := x.record()
	i := TxnInfo{
		ID: x.id, ProducerID: r.ProducerID, Epoch: r.Epoch, Timeout: time.Duration(r.TimeoutMS) * time.Millisecond,
		State: string(r.State), Parts: r.Parts,
	}
	if r.StartedMS > 0 {
		i.Started = time.UnixMilli(r.StartedMS)
	}
	return i
}
