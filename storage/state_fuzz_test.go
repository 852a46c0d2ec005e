package storage

import (
	"encoding/json"
	"testing"
)

// FuzzState reads every value of the store's own spaces from bytes of any kind, as a start does: an error, or a state, never a panic.
func FuzzState(f *testing.F) {
	f.Add("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07", encodeProducer(&producer{epoch: 3, txnFirst: -1, seen: 9}))
	f.Add("\x00\x00\x00\x00", []byte{1, 2, 3})
	f.Add("generation", []byte(`{"id":"a","parent":"b","fork":{"0":7}}`))
	f.Add("a", []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA==","partitions":[0,1],"config":{"retention.ms":"1"}}`))
	f.Add(damageKey(1, 5), []byte(`{"next":9,"file":"f","cause":"c","found":1}`))
	f.Add(keyScrub, []byte(`{"began":1,"running":true,"partition":4294967295}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if pr, err := decodeProducer(value); err == nil {
			if _, err := decodeProducer(encodeProducer(pr)); err != nil {
				t.Fatalf("a producer cannot be read back: %v", err)
			}
		}
		s := newFuzzStore()
		for _, space := range []string{spaceStore, spaceTopics, spaceStarts} {
			_ = s.applyTopicPut(Put{space, key, value})
			_ = s.applyTopicPut(Put{space, key, nil})
		}
		_ = s.applyTopicPut(Put{spaceStore, keyNextPartition, value})
		s.kv.put([]Put{
			{spaceStore, keyScrub, value}, {spaceStore, keyGeneration, value},
		})
		s.meta = &metaDB{} // closed: only what was put is there
		s.damage.restore(key, value)
		s.damage.restore(key, value)
		_ = s.Damages()
		_ = json.Valid(newScrubber(s).put().Value)
		_, _ = s.loadGeneration()
		for _, id := range s.damage.ids() {
			last := int64(-1)
			for _, e := range s.damage.list(id) {
				if e.first < last || e.next <= e.first {
					t.Fatalf("damage out of order: %+v", s.damage.list(id))
				}
				last = e.next
			}
		}
	})
}

// newFuzzStore is a store of which only the tables are there.
func newFuzzStore() *Store {
	s := &Store{o: Options{}.withDefaults(), parts: map[uint32]*Partition{}, damage: newDamageBook(), sealWork: make(chan struct{}, 1)}
	s.topics.Store(&topicTable{})
	s.generation.Store(&Generation{})
	s.sealed = newSealedLog(s.o)
	return s
}
