// Package kafka speaks the Kafka protocol: what Kafka clients need of a broker of one node, with the broker's log behind
// it. The codec is franz-go's kmsg; one numbered file per request, named after its key, opens with the versions that are
// served and what they do.
//
// # Path of a request
//
// Each connection has two goroutines. The reader cuts requests from the stream, decodes and handles them; the writer
// sends the responses, in the order of the requests. A Produce is handed to the broker and answered when its frame is
// synced, so that the reader goes on with the next one meanwhile: a client may have many in flight, and they share
// frames. Every other request first waits for the Produces before it, as if they were handled one after the other, and
// may hold up its connection: a Fetch that waits for records is parked on one Waiter for all of its partitions.
//
// Sealed batches go from the log to the socket as they lie: a Fetch response is a list of slices for writev. A
// produced batch is validated in the buffer that it was read into and handed on as it is.
//
// # Bounds
//
// A request is at most Options.MaxRequest bytes, all requests that are read or served at once at most
// Options.MaxBuffered; a connection has at most maxInFlight requests under way. Beyond, the reader stops reading.
//
// # What clients take for granted
//
//   - Produce and SaslHandshake are advertised from version 0: librdkafka otherwise drops compression, or refuses SASL.
//     Produce 0 to 2 is answered UNSUPPORTED_VERSION.
//   - A Fetch at an offset inside a batch returns the whole batch; and at least one batch, however small the limit.
//   - There are no fetch sessions: the answered session id is 0 for ever, which every client accepts.
//   - Transactions are those of transaction.version 1 (AddPartitionsToTxn first); no feature is finalised.
//
// What is not served, and why, is in the table notImplemented.
package kafka
