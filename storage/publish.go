package storage

// publish shows a durable frame, written when the store's clock stood at at, to readers.
func (s *Store) publish(seq uint64, at int64, raw []byte) {
	b := &s.build
	s.showTxns()
	if len(b.entries) > 0 {
		b.chunk = b.chunk[:min(len(b.chunk)+len(raw), cap(b.chunk))]
		s.publishBatches(seq, at, raw)
	}
	if b.puts > 0 {
		s.kv.put(b.ownPuts())
		if s.kv.dirty() >= maxDirty {
			s.wakeSealer()
		}
	}
	for _, show := range b.shows {
		show()
	}
	s.lastSeq.Store(seq)
	if len(b.entries) > 0 {
		s.pokeAll()
	}
	if s.tailBytes.Load() >= s.o.TailBytes/2 || s.journal.short() {
		s.wakeSealer()
	}
}

func (s *Store) publishBatches(seq uint64, at int64, raw []byte) {
	b := &s.build
	f := Frame{Seq: seq, Batches: make([]FrameBatch, len(b.entries))}
	total := int64(0)
	for i := 0; i < len(b.entries); {
		p := b.entries[i].p
		b.tail = b.tail[:0]
		size := 0
		for ; i < len(b.entries) && b.entries[i].p == p; i++ {
			e := &b.entries[i]
			data := raw[e.from:e.to:e.to]
			size += len(data)
			f.Batches[i] = FrameBatch{p, data}
			b.tail = append(b.tail, tailBatch{seq: seq, base: e.base, next: e.next, data: data, at: at})
		}
		total += int64(size)
		s.count(p, size)
		p.publish(b.tail, size)
	}
	clear(b.tail)
	s.tailBytes.Add(total)
	s.stats.rawBytes.Add(uint64(total))
	s.ring.add(f)
}

// ownPuts copies the frame's key-value changes into memory of their own: values that live until the next checkpoint must
// not hold a chunk of records.
func (b *building) ownPuts() []Put {
	size := 0
	for _, c := range b.taken {
		for _, p := range c.Puts {
			size += len(p.Value)
		}
	}
	arena := make([]byte, 0, size)
	puts := make([]Put, 0, b.puts)
	for _, c := range b.taken {
		for _, p := range c.Puts {
			if p.Value != nil {
				from := len(arena)
				arena = append(arena, p.Value...)
				p.Value = arena[from:len(arena):len(arena)]
			}
			puts = append(puts, p)
		}
	}
	return puts
}
