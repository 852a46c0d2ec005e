package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"rivulet/edge"
)

// space is where uplinks keep what they must know themselves:
//
//	generations                            the store's history
//	shadow/<uplink>/<partition id>         what the centre had, in case that it forgets
//	skip/<uplink>/<partition id>           offsets that were dead-lettered, in the frame of the dead letters
//	rolledback/<uplink>                    where logs go on that were rolled back, until the centre knows
const space = "mirror"

// shadow is a local copy of one position, written some time after the centre committed it and not waited for.
type shadow struct {
	Generation string `json:"generation"`
	ID         uint32 `json:"id"`
	Next       int64  `json:"next"`
	Cluster    string `json:"cluster,omitempty"` // a new central cluster has nothing to go on from
}

// shadowEvery bounds how often shadows are written.
const shadowEvery = time.Second

func (u *Uplink) shadowKey(id uint32) string {
	return "shadow/" + u.o.Name + "/" + strconv.FormatUint(uint64(id), 10)
}

func (u *Uplink) skipKey(id uint32) string {
	return "skip/" + u.o.Name + "/" + strconv.FormatUint(uint64(id), 10)
}

// loadHistory returns the store's generations, the present one first, and notes it when it is new.
func (u *Uplink) loadHistory(ctx context.Context) (history, error) {
	store := u.o.Broker.Store()
	var h history
	b, err := store.Get(space, "generations")
	if err != nil {
		return nil, fmt.Errorf("read the store's history: %w", err)
	}
	if b != nil {
		if err := json.Unmarshal(b, &h); err != nil {
			return nil, fmt.Errorf("read the store's history: %w", err)
		}
	}
	g := store.Generation()
	if len(h) > 0 && h[0].ID == g.ID {
		return h, nil
	}
	for len(h) > 0 && h[0].ID != g.Parent { // a restore goes back in history
		h = h[1:]
	}
	h = append(history{{g.ID, g.Parent, g.Fork}}, h...)
	if g.Parent != "" && len(h) == 1 {
		h = append(h, generation{ID: g.Parent})
	}
	const most = 32 // of a history; what is older counts as unknown
	h = h[:min(len(h), most)]
	b, err = json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("note the store's history: %w", err)
	}
	c := &edge.Commit{Puts: []edge.Put{{Space: space, Key: "generations", Value: b}}, Urgent: true}
	if err := store.Do(ctx, c); err != nil {
		return nil, fmt.Errorf("note the store's history: %w", err)
	}
	return h, nil
}

func (u *Uplink) loadShadow(partition uint32) (shadow, bool) {
	var s shadow
	b, err := u.o.Broker.Store().Get(space, u.shadowKey(partition))
	if err != nil || b == nil {
		return s, false
	}
	return s, json.Unmarshal(b, &s) == nil
}

func (u *Uplink) loadSkips(l *lane) ranges {
	b, err := u.o.Broker.Store().Get(space, u.skipKey(l.src.ID))
	if err != nil || b == nil {
		return nil
	}
	r, err := decodeRanges(b)
	if err != nil {
		u.o.Log.Error("dead-lettered offsets are unreadable; those records may be dead-lettered again", "topic", l.topic, "partition", l.index, "err", err)
		return nil
	}
	return r
}

// saveShadows writes the shadows of the lanes that moved. It does not wait for the disk.
func (u *Uplink) saveShadows(ctx context.Context, generation string, force bool) {
	now := u.o.Now()
	if !force && now.Sub(u.shadowed) < shadowEvery && now.After(u.shadowed) {
		return
	}
	var puts []edge.Put
	for _, l := range *u.lanes.Load() {
		at := l.committed
		if !l.known || at < 0 || at == l.shadowed {
			continue
		}
		b, err := json.Marshal(shadow{generation, l.src.ID, at, u.cluster})
		if err != nil {
			panic(fmt.Sprintf("BUG: encode shadow: %v", err))
		}
		puts = append(puts, edge.Put{Space: space, Key: u.shadowKey(l.src.ID), Value: b})
		if rest := l.skips.from(at); len(rest) != len(l.skips) {
			l.skips = rest
			put := edge.Put{Space: space, Key: u.skipKey(l.src.ID)}
			if len(rest) > 0 {
				put.Value = rest.encode()
			}
			puts = append(puts, put)
		}
		l.shadowed = at
	}
	if len(puts) == 0 {
		return
	}
	u.shadowed = now
	log := u.o.Log
	err := u.o.Broker.Store().Submit(ctx, &edge.Commit{Puts: puts, Urgent: true, Patient: true, Done: func(c *edge.Commit) {
		if c.Err != nil {
			log.Warn("shadow of the positions was not written", "err", c.Err)
		}
	}})
	if err != nil && ctx.Err() == nil {
		log.Warn("shadow of the positions was not written", "err", err)
	}
}
