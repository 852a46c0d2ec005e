// Package wire is the client's side of MQTT 3.1.1, as far as load and fault tests need it: bytes to send, and none of a client
// library's queues between a test and the broker. It is not the broker's codec, so that neither hides the other's mistakes.
package wire

import "encoding/binary"

// MQTT 3.1.1 packet types, in the high four bits of the first byte.
const (
	Connack      = 0x20
	Publish      = 0x30
	Puback       = 0x40
	Pubrec       = 0x50
	Pubrel       = 0x62 // with its reserved flag
	Pubcomp      = 0x70
	Suback       = 0x90
	AckLen       = 4 // PUBACK, PUBREC, PUBREL and PUBCOMP of 3.1.1
	MaxPacketIDs = 65535
)

func appendVarint(b []byte, n int) []byte {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// AppendConnect appends a CONNECT with a clean session and no keep-alive.
func AppendConnect(b []byte, clientID string) []byte { return appendConnect(b, clientID, 0x02) }

// AppendConnectKept appends a CONNECT with a session that outlives the connection.
func AppendConnectKept(b []byte, clientID string) []byte { return appendConnect(b, clientID, 0) }

func appendConnect(b []byte, clientID string, flags byte) []byte {
	b = append(b, 0x10)
	b = appendVarint(b, 10+2+len(clientID))
	b = appendString(b, "MQTT")
	b = append(b, 4, flags, 0, 0)
	return appendString(b, clientID)
}

// AppendSubscribe appends a SUBSCRIBE with one filter.
func AppendSubscribe(b []byte, id uint16, filter string, qos byte) []byte {
	b = append(b, 0x82)
	b = appendVarint(b, 2+2+len(filter)+1)
	b = binary.BigEndian.AppendUint16(b, id)
	b = appendString(b, filter)
	return append(b, qos)
}

// AppendPublish appends a PUBLISH; id counts for QoS 1 and 2.
func AppendPublish(b []byte, topic string, qos byte, id uint16, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	b = append(b, Publish|qos<<1)
	b = appendVarint(b, n)
	b = appendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}
