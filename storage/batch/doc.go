// Package batch reads and writes Kafka record batches, version 2 (KIP-98): the one form in which records are kept in
// memory, on disk and on the wire. It is a pure codec: no I/O, no clock, no goroutines.
//
// A batch is a byte slice that holds exactly one whole RecordBatch: a header of 61 bytes, then records, compressed
// together or not. A Payload is the tail of a record: key, value and headers, without the record's own length,
// attributes, timestamp and offset deltas. Payloads are what front ends build, what plugins see (the ABI's "record
// payload") and what the committer copies into batches, so that a record is encoded once on its way.
//
//	Builder     payloads → an uncompressed batch; it allocates only to grow the caller's buffer
//	Decoder     a batch → records that alias it; it also validates what came from outside
//	Compressor  a batch → the same records under another codec; small batches → one large one
//
// The three keep buffers and codec state between calls: one of each for a goroutine, used again and again, works without
// allocating. Functions that take a batch alone (Check, Place, SetProducer) keep nothing.
//
// Bytes from outside are not believed: lengths are compared as int64 before they become an int, so that 32-bit machines
// refuse what they cannot hold, and decompression is bounded by what the caller allows, not by what the bytes claim.
package batch
