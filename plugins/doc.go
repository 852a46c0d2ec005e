// Package plugins runs users' WebAssembly modules on records. It knows neither storage nor protocols.
//
// A Host is one wazero runtime. Compile checks an upload against the guest ABI (Redpanda Data Transforms, with our
// optional module rivulet_v1), inserts metering (package meter) and compiles it, once for the same bytes. Attach binds a
// module to an input topic; Process sends a slice of records through it:
//
//	Process → lane → instance (a parked coroutine) → staged results → Output
//
// An Attachment has lanes, each with a mutex and at most one instance, so that an instance is used by one goroutine at a
// time and the order within a lane is that of the calls. An instance is made on its lane's first call (lane 0's by
// Attach, to see that the module starts) and anew after a failure.
//
// The guest's _start runs as a coroutine (iter.Pull). It parks in read_batch_header; a call of Process lets it run until
// it parks there again, which means that the batch is done. Nothing is handed from goroutine to goroutine. Host
// functions find their instance in the context that wazero passes on, which is the instance.
//
// What is bounded: CPU per record and at start (fuel, from RecordTime and StartTime by a calibration of the host), native
// stack and linear memory per instance, results per record and per call, log lines per second. Whatever the guest does
// costs that record its result and the instance: the staged results are thrown away, a new instance runs the batch
// without that record, and OnError says what becomes of it. A guest that had run batches before gets one more try with
// a fresh memory, unless it used up its CPU. After 20 failures within a minute an attachment is suspended: OnError
// then applies to all records, and nothing runs until Resume.
//
// Guests are deterministic: their clock is the record's timestamp, their random numbers are the same in all instances,
// and sleeping returns at once.
package plugins
