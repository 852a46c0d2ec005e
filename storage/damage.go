package storage

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/storage/batch"
)

// Damage is a run of sealed records that can be read no more. Its bytes stay where they are, for whoever can rescue them; to
// readers its offsets are a gap, as compaction leaves one: Read gives an empty batch in its place, Frames leaves it out.
// Nothing else is affected, and no offset is given out twice, so that the generation stays the same.
type Damage struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"` // in its topic
	First     int64     `json:"first"`     // offsets [First, Next)
	Next      int64     `json:"next"`
	File      string    `json:"file"`
	Cause     string    `json:"cause"`
	Found     time.Time `json:"found"`
}

// spaceDamage holds what was found damaged, so that a start knows it before anyone reads: u32 partition, u64 first offset →
// JSON.
const spaceDamage = "_damage"

// damageRecord is one value of spaceDamage.
type damageRecord struct {
	Next  int64  `json:"next"`
	File  string `json:"file"`
	Cause string `json:"cause"`
	Found int64  `json:"found"` // ms
}

// damageBook is what is known to be damaged. Readers consult it for each batch once anything is in it, and add to it; the
// scrubber makes it durable.
type damageBook struct {
	known atomic.Int64 // entries in parts, so that a store without damage pays one load

	mu      sync.Mutex // guards what follows
	parts   map[uint32][]damageEntry
	unsaved []Put
	changed chan struct{} // capacity 1: there is something to save
}

// damageEntry is one batch of the index. Entries of a partition ascend by first offset and do not overlap.
type damageEntry struct {
	first, next int64
	rec         damageRecord
}

func newDamageBook() *damageBook {
	return &damageBook{parts: map[uint32][]damageEntry{}, changed: make(chan struct{}, 1)}
}

// covers reports whether the batch of the offsets [first, next) is known to be damaged.
func (b *damageBook) covers(id uint32, first, next int64) bool {
	if b.known.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.parts[id]
	i := sort.Search(len(list), func(i int) bool { return list[i].next > first })
	return i < len(list) && list[i].first <= first && list[i].next >= next
}

// add notes e; false when it was known.
func (b *damageBook) add(e *DamageError, now time.Time) bool {
	entry := damageEntry{e.First, e.Next, damageRecord{Next: e.Next, File: e.File, Cause: e.Cause.Error(), Found: now.UnixMilli()}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.insert(e.Partition, entry) {
		return false
	}
	if value, err := json.Marshal(entry.rec); err == nil { // it holds nothing that could fail
		b.unsaved = append(b.unsaved, Put{Space: spaceDamage, Key: damageKey(e.Partition, e.First), Value: value})
	}
	poke(b.changed)
	return true
}

// insert puts an entry into its place. mu is held.
func (b *damageBook) insert(id uint32, e damageEntry) bool {
	list := b.parts[id]
	i := sort.Search(len(list), func(i int) bool { return list[i].next > e.first })
	if i < len(list) && list[i].first < e.next {
		return false // a merged or copied batch may overlap what is known: one mention is enough
	}
	b.parts[id] = slices.Insert(list, i, e)
	b.known.Add(1)
	return true
}

// forget takes out the entries that gone names.
func (b *damageBook) forget(id uint32, gone func(e damageEntry) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.parts[id]
	kept := list[:0:0]
	for _, e := range list {
		if !gone(e) {
			kept = append(kept, e)
			continue
		}
		b.known.Add(-1)
		b.unsaved = append(b.unsaved, Put{Space: spaceDamage, Key: damageKey(id, e.first)})
		poke(b.changed)
	}
	if b.parts[id] = kept; len(kept) == 0 {
		delete(b.parts, id)
	}
}

// list returns the entries of a partition, ids the partitions that have any.
func (b *damageBook) list(id uint32) []damageEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.parts[id])
}

func (b *damageBook) ids() []uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]uint32, 0, len(b.parts))
	for id := range b.parts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// take returns what is to be saved; giveBack puts it in front again when that failed.
func (b *damageBook) take() []Put {
	b.mu.Lock()
	defer b.mu.Unlock()
	puts := b.unsaved
	b.unsaved = nil
	return puts
}

func (b *damageBook) giveBack(puts []Put) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsaved = append(puts, b.unsaved...)
}

func damageKey(id uint32, first int64) string {
	key := binary.BigEndian.AppendUint32(nil, id)
	return string(binary.BigEndian.AppendUint64(key, uint64(first)))
}

// loadDamage reads what earlier runs found.
func (s *Store) loadDamage() error {
	err := s.Scan(spaceDamage, "", func(key string, value []byte) bool {
		s.damage.restore(key, value)
		return true
	})
	if err != nil {
		return fmt.Errorf("read known damage: %w", err)
	}
	return nil
}

// restore takes a stored entry. One that cannot be read is passed over: whoever reads the batch finds it again.
func (b *damageBook) restore(key string, value []byte) {
	var rec damageRecord
	if len(key) != 12 || json.Unmarshal(value, &rec) != nil {
		return
	}
	id, first := binary.BigEndian.Uint32([]byte(key)), int64(binary.BigEndian.Uint64([]byte(key[4:])))
	if first < 0 || rec.Next <= first {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.insert(id, damageEntry{first, rec.Next, rec})
}

// Damages lists the sealed records that are known to be unreadable, by partition and offset. The background scrub looks for
// more; readers find what they meet.
func (s *Store) Damages() []Damage {
	var out []Damage
	for _, id := range s.damage.ids() {
		p := s.partition(id)
		if p == nil {
			continue
		}
		start, _, _ := p.Offsets()
		for _, e := range s.damage.list(id) {
			if e.next <= start {
				continue
			}
			out = append(out, Damage{
				Topic: p.topic, Partition: p.Index, First: max(e.first, start), Next: e.next,
				File: e.rec.File, Cause: e.rec.Cause, Found: time.UnixMilli(e.rec.Found),
			})
		}
	}
	return out
}

// problem is a damage as Problems tells it.
func (d *Damage) problem() Problem {
	return Problem{
		File: d.File, Topic: d.Topic, Where: fmt.Sprintf("partition %d, offsets %d to %d", d.Partition, d.First, d.Next-1),
		Detail: "records cannot be read and are passed over: " + d.Cause,
	}
}

// found is called for every damaged batch that a reader or the scrub meets.
func (s *Store) found(e *DamageError) {
	if !s.damage.add(e, s.o.Now()) {
		return
	}
	topic, index := "", int32(-1)
	if p := s.partition(e.Partition); p != nil {
		topic, index = p.topic, p.Index
	}
	s.o.Log.Error("stored records are damaged and passed over", "topic", topic, "partition", index,
		"first", e.First, "last", e.Next-1, "file", e.File, "err", e.Cause)
}

// saveDamage makes what was found durable. The scrubber calls it; a store that cannot write keeps it for later.
func (s *Store) saveDamage(ctx context.Context) error {
	puts := s.damage.take()
	if len(puts) == 0 {
		return nil
	}
	err := s.Do(ctx, &Commit{Puts: puts})
	if err != nil {
		s.damage.giveBack(puts)
		return fmt.Errorf("save what was found damaged: %w", err)
	}
	return nil
}

// stopgap appends what readers get for a damaged batch: one without records that covers its offsets. Every client of Kafka's
// protocol goes on behind such a batch, since compaction leaves them, too.
func stopgap(out [][]byte, first, next int64) [][]byte {
	for first < next {
		to := min(next, first+math.MaxInt32)
		out = append(out, batch.AppendEmpty(nil, first, to))
		first = to
	}
	return out
}
