package mqtt

import (
	"slices"

	"rivulet/edge"
)

// window is the QoS 1 and 2 messages that were sent to a client and not yet acknowledged. Packet ids are its places, so that none is
// in use twice and one that is never acknowledged costs its own place and nothing else. The ids of the other direction are
// the client's and have nothing to do with them.
type window struct {
	max   int
	slots []slot // by packet id - 1
	free  []uint16
	next  int // where in free the next one is taken
	used  int
	order uint64
}

// slot is one message in flight: where it lies in the log, or, of a retained copy, its topic.
type slot struct {
	part   *edge.Partition
	offset int64
	topic  string
	order  uint64 // of sending; 0: free

	qos      byte
	released bool   // PUBREC came: only PUBREL may be sent
	share    *share // whose message it is; nil: the session's own
	ticket   uint64 // its place among the share's pending messages
}

func (w *window) full() bool { return w.used >= w.max }

// take returns a packet id for a message. The window must not be full.
func (w *window) take(s slot) uint16 {
	w.used++
	w.order++
	s.order = w.order
	if w.next < len(w.free) {
		id := w.free[w.next]
		w.next++
		if w.next == len(w.free) {
			w.free, w.next = w.free[:0], 0
		}
		w.slots[id-1] = s
		return id
	}
	w.slots = append(w.slots, s)
	return uint16(len(w.slots))
}

// restore puts a message back under the id it had before a reconnect.
func (w *window) restore(id uint16, s slot) {
	for len(w.slots) < int(id) {
		w.slots = append(w.slots, slot{})
		if len(w.slots) < int(id) {
			w.free = append(w.free, uint16(len(w.slots)))
		}
	}
	if w.slots[id-1].order != 0 {
		return
	}
	w.free = slices.DeleteFunc(w.free, func(f uint16) bool { return f == id })
	w.order = max(w.order, s.order)
	w.slots[id-1] = s
	w.used++
}

// at returns the message in flight under an id, or nil.
func (w *window) at(id uint16) *slot {
	i := int(id) - 1
	if i < 0 || i >= len(w.slots) || w.slots[i].order == 0 {
		return nil
	}
	return &w.slots[i]
}

// acknowledged frees an id; one that is not in use with that QoS is ignored (a PUBACK that crossed a reconnect).
func (w *window) acknowledged(id uint16, qos byte) (sl slot, ok bool) {
	if s := w.at(id); s == nil || s.qos != qos {
		return slot{}, false
	}
	i := int(id) - 1
	sl = w.slots[i]
	w.slots[i] = slot{}
	w.used--
	if w.next > 0 && len(w.free) == cap(w.free) { // close the gap before it grows
		w.free = w.free[:copy(w.free, w.free[w.next:])]
		w.next = 0
	}
	w.free = append(w.free, id)
	return sl, true
}

// inFlight lists the ids in use in the order in which they were sent.
func (w *window) inFlight() []uint16 {
	var ids []uint16
	for i := range w.slots {
		if w.slots[i].order != 0 {
			ids = append(ids, uint16(i+1))
		}
	}
	slices.SortFunc(ids, func(a, b uint16) int { return int(int64(w.slots[a-1].order) - int64(w.slots[b-1].order)) })
	return ids
}
