// Command rivulet-bench puts load on MQTT brokers and Kafka-speaking ones, and compares them.
//
// The MQTT side is raw sockets and pre-encoded packets: a publisher is one goroutine that writes what its window allows,
// reads whatever acknowledgements have come, and writes that many more. It allocates nothing per message, so that on two
// cores shared with the broker the figure is the broker's and not the client's. A publisher's packets differ from each other (telemetry with
// moving values), since a log that compresses must not be flattered by one message sent over and over.
//
//	mqtt     one load on one broker
//	compare  rivulet and mosquitto in turn, A B A B, medians, with the disk's fdatasync beside them
//	peers    rivulet, mosquitto, NATS and mochi in turn: QoS 0 to 2, fan-out, latency, idle connections, sessions that were away
//	hold     connections that do nothing, for peers
//	storm    devices that all come back at once, by password, SCRAM, TLS, and what another publisher notices
//	rush     the devices' side of storm
//	kafka    produce, then consume, through franz-go
//	idle     what rivulet takes before anybody uses it
//	fsync    the disk's fdatasync by itself
//
// The rate is counted between two snapshots, after a warm-up. Latencies are samples: one message of each write, from just
// before the write to its acknowledgement.
package main
