package edge

import (
	"sort"

	"rivulet/storage/batch"
)

// place chooses the partition of a key: -1 when a slice of records is to choose one for all of its own (round robin, or
// no key), which keeps batches large as Kafka's sticky partitioner does (KIP-480).
func (s *topicSettings) place(key []byte, partitions int) int32 {
	switch {
	case partitions == 1:
		return 0
	case s.spread == "round_robin" || key == nil:
		return -1
	case s.spread == "range":
		return rangePartition(key, s.bounds, partitions)
	}
	return int32(batch.Murmur2(key)&0x7fffffff) % int32(partitions)
}

// rangePartition keeps neighbouring keys together: partition i holds the keys below bound i. Without bounds the space of
// the first two bytes is divided evenly.
func rangePartition(key []byte, bounds []string, partitions int) int32 {
	if len(bounds) > 0 {
		i := sort.Search(len(bounds), func(i int) bool { return string(key) < bounds[i] })
		return int32(min(i, partitions-1))
	}
	first := 0
	if len(key) > 0 {
		first = int(key[0]) << 8
	}
	if len(key) > 1 {
		first |= int(key[1])
	}
	return int32(first * partitions >> 16)
}
