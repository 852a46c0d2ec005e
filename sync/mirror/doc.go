// Package mirror carries topics of this broker to a central Kafka cluster, exactly once.
//
// An Uplink is one link to one cluster. It reads the log like any other reader, behind the last stable offset, and sends
// in bursts:
//
//	log ──► gather ──► one transaction { batches as they lie on disk, positions } ──► central cluster
//
// A burst is gathered before its transaction begins, so that a link that breaks leaves readers of the centre waiting for the
// transaction timeout at most, and never for data. Batches travel as they are, with a new header; runs of small or
// uncompressed ones are put together; what a Kafka broker would refuse (gaps after compaction, broker timestamps) is encoded anew.
//
// Positions are the metadata of offsets of the topic _rivulet-progress, which are committed for the group
// rivulet-<edge>-<uplink> in the same transaction: the centre alone knows what it has. Every entry carries the partition's
// id and every shard the store's generation, by which a start tells a lagging link from a wiped disk and from a restored one
// (see reconcile). A shadow of the positions in the store's key-value space "mirror" covers a centre that forgot them.
//
// Any error in a transaction ends it: abort, initialise the producer again (which also ends what an earlier process left
// open), fetch the positions, gather again. Parts of a transaction are never sent twice on this side's own judgement, but for
// answers that say that nothing was appended.
//
// Goroutines: Run is one, and owns all state but what is under mu; a burst adds one for each leader and one for the positions,
// all ended before the burst is. Memory: at most maxGather bytes of gathered batches, one batch that is being encoded, and what
// kgo holds in its buffers (at most five requests a leader of at most maxRequest bytes each).
package mirror
