// Package bridge brings the messages of another MQTT broker here: it subscribes there with a session that outlives the
// connection, and what comes takes the same way as a device's publish, routes and plugins included.
//
// Nothing is acknowledged there before it is committed here. So a message that the other broker has promised to deliver is never
// lost, whichever side is killed: QoS 1 may come twice after a broken connection, as MQTT allows; QoS 2 comes once, because its
// packet id is in the journal frame of its message and is forgotten durably before the other side hears that it may forget, too. A
// message has the lower of its publisher's QoS and the bridge's.
// QoS 0 is as reliable as the connection. A broker that publishes a message again after its PUBREL (MQTT-4.3.3-1 forbids it, Mosquitto 2.0.11
// does it now and then) sends what nobody can tell from a new message.
//
//		socket ─ tap ─ paho ─ handler ─ queue ─ batches ─ edge.Ingest ─ acker ─ paho ─ socket
//
//	  - tap (tap.go) wraps the connection: it buffers reads, sees CONNACK, SUBACK and PUBREL before paho, which answers PUBREL by itself, and
//	    cuts short what is larger than can be stored.
//	  - session.go keeps what is known of the session at the other side: packet ids and subscriptions are good for that one alone.
//	  - link.go is one connection: paho's handler fills the queue, one goroutine makes batches of what has come and gives them to the
//	    broker, one acknowledges them in order as they become durable. The next connection begins when all of that has settled.
//	  - bridge.go connects again and again, with back-off and jitter, and keeps the status.
//
// The connection says that it is a bridge (protocol version 0x84, as Mosquitto does): the other side then keeps the retain flag, and
// does not send back what came over the same connection. A broker that does not know that bit is asked without it. Two brokers that
// bridge the same topics from each other make a loop that this bit does not break: give one of them a prefix. With a prefix a loop is
// noticed, and its messages dropped and counted, when the prefix comes round.
//
// Paho speaks MQTT 3.1.1, which has no properties and no receive maximum; how much is in flight is bounded by the queue here, in messages and
// in bytes, and by what the other broker allows.
//
// A session that the other broker lost is one that this side does not notice when the CONNACK that says so is lost, too. So that a CONNECT
// is on its way is durable before it is sent; when no answer came, the next connection subscribes again, and takes a QoS 2 message
// that is not marked as sent again for a new one.
package bridge
