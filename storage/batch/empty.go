package batch

// AppendEmpty appends a batch without records that covers the offsets [first, next): what a reader gets in place of records
// that cannot be read. Kafka's own brokers keep such batches where compaction removed all records (KIP-98), so that every client
// goes on behind them. next must be above first, by at most 2³¹−1.
func AppendEmpty(dst []byte, first, next int64) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[at:]
	Header{
		BaseOffset: first, Length: minLength, LastOffsetDelta: int32(next - 1 - first),
		FirstTimestamp: -1, MaxTimestamp: -1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
	}.put(b)
	seal(b)
	return dst
}
