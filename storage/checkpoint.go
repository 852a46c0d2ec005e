package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// maxDirty is how much may have changed in the key-value space before it is checkpointed.
const maxDirty = 8 << 20

// The checkpoint's own spaces and keys.
const (
	spaceProducers = "_producers"  // partition id, producer id → state
	spaceAborted   = "_aborted"    // partition id, last offset → producer id, first offset
	spaceParts     = "_partitions" // block of partition ids → bytes appended to each, and its next offset

	keyClock    = "clock"
	keyWall     = "wall"
	keyClockV1  = "clock-v1"
	keySealedTo = "sealed-to"
	keyNumber   = "log-number"
)

// partsBlock is how many partitions share one value.
const partsBlock = 128

// frozenState is a checkpoint that is being applied.
type frozenState struct {
	seq      uint64
	sealedTo uint64
	number   uint32
	clock    int64
	own      []Put // what is not in the overlay
	puts     []Put // all of it
}

// checkpoint moves everything but records into meta.db, as of the last frame. After a failure the same state is applied again.
func (s *Store) checkpoint() error {
	if s.frozen == nil {
		sealedTo, number := s.sealedTo, s.sealed.number
		s.onCommitter(func() {
			// A frame that could not be made durable left its traces in the committer's state: a batch that was lost with it
			// would be answered as a duplicate for ever. The journal has what is true.
			if !s.readOnly.Load() {
				s.frozen = s.freeze(sealedTo, number)
			}
		})
		if s.frozen == nil {
			return nil
		}
		s.frozen.puts = append(s.kv.frozenPuts(), s.frozen.own...)
	}
	if err := s.meta.apply(s.frozen.seq, s.frozen.puts); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.kv.thaw()
	s.applied, s.sealedKnown = s.frozen.seq, max(s.sealedKnown, s.frozen.sealedTo)
	s.clockSaved = s.frozen.clock
	s.sealed.kept(s.frozen.sealedTo, s.frozen.number)
	s.sealed.sweep() // files that were kept until a checkpoint says what they said
	s.frozen = nil
	return nil
}

// onCommitter runs fn between two frames.
func (s *Store) onCommitter(fn func()) {
	ran := make(chan struct{})
	select {
	case s.control <- func() { fn(); close(ran) }:
		<-ran
	case <-s.committed: // nobody else is left
		fn()
	}
}

// freeze takes the state of everything that is checkpointed. The committer runs it, so that it is the state after a frame.
func (s *Store) freeze(sealedTo uint64, number uint32) *frozenState {
	s.kv.freeze()
	own := s.graves
	s.graves = nil
	own = s.expireProducers(own)
	for _, ref := range s.changedProducers {
		if pr := ref.p.prods[ref.id]; pr != nil {
			pr.changed = false
			put := producerKey(ref.p.ID, ref.id)
			put.Value = encodeProducer(pr)
			own = append(own, put)
		}
	}
	clear(s.changedProducers)
	s.changedProducers = s.changedProducers[:0]
	for _, ref := range s.newAborted {
		own = append(own, abortedPut(ref.p.ID, ref.a))
	}
	clear(s.newAborted)
	s.newAborted = s.newAborted[:0]
	for block := range s.partsChanged {
		own = append(own, s.partsPut(block))
	}
	clear(s.partsChanged)
	at, wall := s.clock.both()
	own = append(own,
		Put{Space: spaceStore, Key: keyClock, Value: strconv.AppendInt(nil, at, 10)},
		Put{Space: spaceStore, Key: keyWall, Value: strconv.AppendInt(nil, max(wall, 0), 10)},
		Put{Space: spaceStore, Key: keyClockV1, Value: strconv.AppendInt(nil, s.clockV1, 10)},
		Put{Space: spaceStore, Key: keyNumber, Value: strconv.AppendUint(nil, uint64(number), 10)},
		sealedToPut(sealedTo),
		s.scrub.put())
	return &frozenState{seq: s.lastSeq.Load(), sealedTo: sealedTo, number: number, clock: at, own: own}
}

func sealedToPut(sealedTo uint64) Put {
	return Put{Space: spaceStore, Key: keySealedTo, Value: strconv.AppendUint(nil, sealedTo, 10)}
}

// expireProducers forgets those that were idle for a day. It looks at all of them, once a checkpoint.
func (s *Store) expireProducers(own []Put) []Put {
	before := s.clock.now() - producerIdle
	for _, p := range s.liveParts() {
		for id, pr := range p.prods {
			if pr.txnFirst < 0 && pr.seen < before {
				delete(p.prods, id)
				own = append(own, producerKey(p.ID, id))
			}
		}
	}
	return own
}

// count adds to the bytes that were appended to p.
func (s *Store) count(p *Partition, bytes int) {
	p.rawNow += uint64(bytes)
	s.partsChanged[p.ID/partsBlock] = struct{}{}
}

func producerKey(partition uint32, id int64) Put {
	key := binary.BigEndian.AppendUint32(nil, partition)
	return Put{Space: spaceProducers, Key: string(binary.BigEndian.AppendUint64(key, uint64(id)))}
}

func encodeProducer(pr *producer) []byte {
	b := binary.AppendVarint(nil, int64(pr.epoch))
	b = binary.AppendVarint(b, pr.txnFirst)
	b = binary.AppendVarint(b, pr.seen)
	for _, r := range pr.recent[:pr.count] {
		b = binary.AppendVarint(b, int64(r.first))
		b = binary.AppendVarint(b, int64(r.last))
		b = binary.AppendVarint(b, r.base)
	}
	return b
}

var errState = errors.New("checkpointed state is malformed")

func decodeProducer(b []byte) (*producer, error) {
	r := bodyReader{b: b}
	pr := &producer{epoch: int16(r.varint()), txnFirst: r.varint(), seen: r.varint()}
	for len(r.b) > 0 && pr.count < keepBatches {
		pr.recent[pr.count] = seqRange{int32(r.varint()), int32(r.varint()), r.varint()}
		pr.count++
	}
	if r.bad || len(r.b) > 0 {
		return nil, errState
	}
	return pr, nil
}

func abortedPut(partition uint32, a Aborted) Put {
	key := binary.BigEndian.AppendUint32(nil, partition)
	key = binary.BigEndian.AppendUint64(key, uint64(a.LastOffset))
	value := binary.AppendVarint(nil, a.ProducerID)
	return Put{Space: spaceAborted, Key: string(key), Value: binary.AppendVarint(value, a.FirstOffset)}
}

// partsPut encodes where the logs of a block of partitions end; those of deleted topics are 0.
func (s *Store) partsPut(block uint32) Put {
	s.partsMu.RLock()
	defer s.partsMu.RUnlock()
	var b []byte
	for i := range uint32(partsBlock) {
		raw, next := uint64(0), uint64(0)
		if p := s.parts[block*partsBlock+i]; p != nil {
			raw, next = p.rawNow, uint64(p.next)
		}
		b = binary.AppendUvarint(b, raw)
		b = binary.AppendUvarint(b, next)
	}
	return Put{Space: spaceParts, Key: string(binary.BigEndian.AppendUint32(nil, block)), Value: b}
}

// loadCheckpoint reads the state that freeze took. Topics are there already.
func (s *Store) loadCheckpoint() error {
	number := func(key string) (uint64, error) {
		value, err := s.settled(spaceStore, key)
		if err != nil || value == nil {
			return 0, err
		}
		return strconv.ParseUint(string(value), 10, 63)
	}
	at, err := number(keyClock)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	s.clock.at.Store(int64(at))
	s.clockSaved = int64(at)
	wall, err := number(keyWall)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	s.wallSaved = int64(wall)
	if wall == 0 {
		s.clockV1 = int64(at) // a new store, or one that the first version wrote
	} else if at, err = number(keyClockV1); err != nil {
		return fmt.Errorf("read clock: %w", err)
	} else {
		s.clockV1 = int64(at)
	}
	if s.sealedTo, err = number(keySealedTo); err != nil {
		return fmt.Errorf("read sealed sequence: %w", err)
	}
	number32, err := number(keyNumber)
	if err != nil || number32 > math.MaxUint32 {
		return fmt.Errorf("read number of log files: %w", errors.Join(err, errState))
	}
	s.sealed.number = max(s.sealed.number, uint32(number32))
	s.sealed.kept(s.sealedTo, uint32(number32))
	var bad error
	err = s.meta.scan(spaceStarts, "", func(key string, value []byte) bool {
		bad = s.applyStart(Put{Space: spaceStarts, Key: key, Value: value})
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("read log starts: %w", err)
	}
	err = s.meta.scan(spaceProducers, "", func(key string, value []byte) bool {
		if len(key) != 12 {
			bad = errState
			return false
		}
		id := int64(binary.BigEndian.Uint64([]byte(key[4:])))
		p := s.partition(binary.BigEndian.Uint32([]byte(key)))
		if p == nil {
			return true // the topic was deleted behind the checkpoint
		}
		pr, err := decodeProducer(value)
		if err != nil {
			bad = err
			return false
		}
		if p.prods == nil {
			p.prods = map[int64]*producer{}
		}
		p.prods[id] = pr
		if pr.txnFirst >= 0 {
			s.events = append(s.events, txnEvent{p: p, id: id, first: pr.txnFirst, last: -1})
		}
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("read producers: %w", err)
	}
	s.showTxns()
	err = s.meta.scan(spaceAborted, "", func(key string, value []byte) bool {
		r := bodyReader{b: value}
		a := Aborted{ProducerID: r.varint(), FirstOffset: r.varint()}
		if len(key) != 12 || r.bad {
			bad = errState
			return false
		}
		a.LastOffset = int64(binary.BigEndian.Uint64([]byte(key[4:])))
		if p := s.partition(binary.BigEndian.Uint32([]byte(key))); p != nil {
			p.aborted = append(p.aborted, a)
		}
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("read aborted transactions: %w", err)
	}
	err = s.meta.scan(spaceParts, "", func(key string, value []byte) bool {
		if len(key) != 4 {
			bad = errState
			return false
		}
		r := bodyReader{b: value}
		block := binary.BigEndian.Uint32([]byte(key))
		if block > math.MaxUint32/partsBlock {
			bad = errState
			return false
		}
		for i := range uint32(partsBlock) {
			raw, next := r.uvarint(), r.uvarint()
			if p := s.partition(block*partsBlock + i); p != nil {
				p.rawNow, p.raw, p.known = raw, raw, int64(next)
			}
		}
		if r.bad {
			bad = errState
		}
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("read partitions: %w", err)
	}
	return nil
}
