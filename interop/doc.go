// Package interop looks at the built program from outside, as its users do. It holds tests only.
//
// Without a build tag: kill -9 under load (kill_test.go), which needs nothing but Go.
//
// With the tag interop, by run.sh, which installs what they need: real MQTT and Kafka clients, Apache Kafka itself, guests
// compiled from C, Rust and Go, power cuts of a loop-mounted file system, failing system calls, and the console in a browser. A peer
// that is missing fails its test; nothing skips.
//
// What was acknowledged is written into a ledger (ledger_test.go) while the load runs, and afterwards the log is read back and held
// against it: no hole, no duplicate that nobody sent twice, no swap, offsets dense. The checker is itself shown failing on each.
package interop
