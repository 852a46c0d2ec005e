// Package compare holds two logs against each other: the one that was mirrored and its copy. It is the judge of `rivulet demo`
// and of the tests that kill brokers, and so it shares no code with the mirror.
//
//	report, err := compare.Logs(compare.Partition(p), compare.Topic(ctx, "telemetry", 0, opts...))
//
// Records are the same when key, value and headers are, in order; offsets and timestamps may differ. A report counts holes,
// duplicates, swaps and strangers, and shows the first few places of each. Both logs are read once; what is kept in memory
// is 16 bytes a record, and more only when they differ.
package compare
