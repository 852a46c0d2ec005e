package storage

import (
	"slices"

	"rivulet/storage/batch"
)

// Labels says what the readers of frames may ask for (Query). The store writes down, for each sealed batch, which labels its records
// have, so that who looks for few of them reads few batches. It does not know what a label stands for.
type Labels struct {
	// Scheme names what Of does, by a number other than 0: labels of another scheme are not looked at.
	Scheme uint32
	// Of appends the labels of one record of a topic to dst, a few at most. Of each, the low 24 bits are kept, so they should be
	// well mixed. It depends on nothing but its arguments: not on the configuration, which may change before the record is read.
	// Several goroutines call it, for each record that is sealed: it must be fast.
	Of func(dst []uint32, topic string, p batch.Payload) []uint32
}

const (
	labelMask = 1<<24 - 1
	// maxLabels is how many labels a batch may have; of one with more nothing is written down, and everybody reads it.
	maxLabels = 4096
)

// labelSet gathers different labels. The zero value is empty; it reuses its memory.
type labelSet struct {
	slots []uint32 // label + 1, by its hash; a power of two
	list  []uint32
}

func (s *labelSet) reset() {
	clear(s.slots)
	s.list = s.list[:0]
}

// add takes one label.
func (s *labelSet) add(label uint32) {
	if 2*len(s.list) >= len(s.slots) {
		s.grow()
	}
	label &= labelMask
	mask := uint32(len(s.slots) - 1)
	for i := label & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case label + 1:
			return
		case 0:
			s.slots[i] = label + 1
			s.list = append(s.list, label)
			return
		}
	}
}

func (s *labelSet) grow() {
	s.slots = make([]uint32, max(64, 2*len(s.slots)))
	list := s.list
	s.list = s.list[:0]
	for _, l := range list {
		s.add(l)
	}
}

// sorted lists the labels; valid until the next call.
func (s *labelSet) sorted() []uint32 {
	slices.Sort(s.list)
	return s.list
}

// labelling makes the labels of batches.
type labelling struct {
	Labels
	topic func(id uint32) string // of a partition
	set   labelSet
	dec   batch.Decoder
	of    []uint32
}

// batch adds the labels of all records of a batch of a topic. False: it could not be looked into, or holds too many.
func (l *labelling) batch(topic string, b []byte) bool {
	if l.dec.Reset(b, 0) != nil {
		return false
	}
	for {
		r, ok := l.dec.Next()
		if !ok {
			return l.dec.Err() == nil
		}
		l.of = l.Of(l.of[:0], topic, r.Payload)
		for _, label := range l.of {
			l.set.add(label)
		}
		if len(l.set.list) > maxLabels {
			return false
		}
	}
}

// run gathers the labels of batches that become one; ok is false when they are not known: of transactions and their
// markers, which readers have to see, and of what a producer compressed, which is not opened for this.
func (l *labelling) run(id uint32, items []mergeItem) (labels []uint32, ok bool) {
	if l.Of == nil {
		return nil, false
	}
	l.set.reset()
	topic, asked := "", false
	for i := range items {
		t := &items[i]
		if t.labelled {
			for _, label := range t.labels {
				l.set.add(label)
			}
			if len(l.set.list) > maxLabels {
				return nil, false
			}
			continue
		}
		h, err := batch.ParseHeader(t.data)
		if err != nil || h.Control() || h.Transactional() || h.Codec() != batch.None && len(t.data) >= keepFrom {
			return nil, false
		}
		if !asked {
			topic, asked = l.topic(id), true
		}
		if topic == "" || !l.batch(topic, t.data) {
			return nil, false
		}
	}
	return l.set.sorted(), true
}
