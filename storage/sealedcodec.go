package storage

import "rivulet/storage/batch"

// codecRule says how a topic's batches are stored (compression.type).
type codecRule struct {
	codec batch.Codec
	keep  bool // what a producer compressed stays as it is
}

// defaultCodec is that of compression.type=producer, as far as the producer did not choose.
const defaultCodec = batch.LZ4

// codecOf reads a topic's compression.type.
func codecOf(compression string) codecRule {
	switch compression {
	case "lz4":
		return codecRule{codec: batch.LZ4}
	case "zstd":
		return codecRule{codec: batch.Zstd}
	case "gzip":
		return codecRule{codec: batch.Gzip}
	case "snappy":
		return codecRule{codec: batch.Snappy}
	case "uncompressed":
		return codecRule{codec: batch.None}
	}
	return codecRule{codec: defaultCodec, keep: true}
}

// asIs reports whether a batch that is not merged with others is stored in the bytes that it has.
func (r codecRule) asIs(h batch.Header) bool {
	return h.Control() || h.Codec() == r.codec || r.keep && h.Codec() != batch.None
}

// codec is the rule of a partition's topic as it is now; what was sealed under another stays, until its file is rewritten.
func (s *Store) codec(id uint32) codecRule {
	if p := s.partition(id); p != nil {
		if t, ok := s.Topic(p.topic); ok {
			return codecOf(t.Policy.Compression)
		}
	}
	return codecOf("")
}
