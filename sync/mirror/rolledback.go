package mirror

import (
	"context"
	"encoding/json"
	"fmt"

	"rivulet/edge"
)

// rolledBack says where partitions go on whose log was found to end before the centre's position. It is noted before anything is sent:
// the centre holds the old position until it takes the next transaction, and the log may have grown past it by then.
type rolledBack struct {
	Counter int64            `json:"counter"` // of the centre's transactions; another one ends the note
	Next    map[uint32]int64 `json:"next"`    // by partition id

	fresh bool // not noted yet
}

func (u *Uplink) rolledBackKey() string { return "rolledback/" + u.o.Name }

// loadRolledBack returns what was noted since the centre's last transaction.
func (u *Uplink) loadRolledBack(ctx context.Context, counter int64) (*rolledBack, error) {
	n := &rolledBack{Counter: counter, Next: make(map[uint32]int64)}
	store := u.o.Broker.Store()
	b, err := store.Get(space, u.rolledBackKey())
	if err != nil {
		return nil, fmt.Errorf("read where a log was rolled back: %w", err)
	}
	if b == nil {
		return n, nil
	}
	var noted rolledBack
	if err := json.Unmarshal(b, &noted); err != nil {
		return nil, fmt.Errorf("read where a log was rolled back: %w", err)
	}
	if noted.Counter == counter && noted.Next != nil {
		return &noted, nil
	}
	// It must not hold again when the counter comes to the same number once more, after the centre forgot it.
	c := &edge.Commit{Puts: []edge.Put{{Space: space, Key: u.rolledBackKey()}}, Urgent: true}
	if err := store.Do(ctx, c); err != nil {
		return nil, fmt.Errorf("forget where a log was rolled back: %w", err)
	}
	return n, nil
}

// adjust changes what reconcile said of a partition where it was noted, and takes in where it was rolled back.
func (n *rolledBack) adjust(id uint32, next int64, v verdict) (int64, verdict) {
	if v == foreign {
		return next, v
	}
	if at, ok := n.Next[id]; ok && at <= next {
		return at, ahead
	}
	if v == ahead {
		n.Next[id], n.fresh = next, true
	}
	return next, v
}

// save makes durable what adjust took in.
func (n *rolledBack) save(ctx context.Context, u *Uplink) error {
	if !n.fresh {
		return nil
	}
	b, err := json.Marshal(n)
	if err == nil {
		err = u.o.Broker.Store().Do(ctx, &edge.Commit{Puts: []edge.Put{{Space: space, Key: u.rolledBackKey(), Value: b}}, Urgent: true})
	}
	if err != nil {
		return fmt.Errorf("note where the log was rolled back: %w", err)
	}
	return nil
}
