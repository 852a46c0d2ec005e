// Package listener holds the ways in that are not plain TCP: each wraps a net.Listener into one whose connections carry
// nothing but MQTT's bytes, so that edge/mqtt does not know how they came.
//
//	WebSocket  RFC 6455, MQTT-6.0.0: what is read is the payload of binary frames
//	Proxy      PROXY protocol v2: RemoteAddr is that of the client behind the proxy
//
// They are stacked in the order in which the bytes are packed: TCP, PROXY, TLS, WebSocket.
//
// A connection behaves as net.Conn says, deadlines included: one that strikes interrupts a Read and harms nothing. That, and
// that an idle connection may cost neither a goroutine nor a buffer of its own, is why the frames are taken apart here.
// Frames are unpacked in the caller's buffer, as many as one read of the socket brought.
package listener
