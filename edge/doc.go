// Package edge is the broker: topics, routes and the path of a record from a front end to the log. It knows no protocol;
// edge/mqtt, edge/kafka and edge/http each translate one into calls of Broker and none of them touches storage.
//
// The path of a slice of records, in the goroutine of the front end that read it:
//
//	Target (route.go)     MQTT topic → log topic, key, partition; cached by the front end until Epoch changes
//	Ingest (ingest.go)    groups the slice by partition, runs the topic's plugins (pipeline.go), adds retained copies
//	storage.Submit        the committer takes it into the next journal frame
//	Done                  after the fsync, on the store's completion goroutine; the front end then acknowledges
//
// A Kafka batch takes the same way through IngestBatch (ingestbatch.go): stored as it is when no plugin wants to see it.
//
// Readers (MQTT subscribers, Kafka fetch, uplinks) read the log itself, by partition and offset or by frame, and see a
// record only after it is durable.
//
// Goroutines: none of its own but the consumer groups' and transactions' timers. Locks: Broker.mu guards changes of
// plugins and attachments; a pipeline's RWMutex is held for reading while its plugins run, so that an attachment is
// closed between two slices. Broker.mu is taken before a pipeline's lock, never after it.
package edge
