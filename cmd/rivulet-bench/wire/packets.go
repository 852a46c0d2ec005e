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
	Auth         = 0xF0 // of MQTT 5
	AckLen       = 4    // PUBACK, PUBREC, PUBREL and PUBCOMP of 3.1.1
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

// AppendConnectLogin appends a CONNECT with a clean session, no keep-alive, user name and password.
func AppendConnectLogin(b []byte, clientID, user, password string) []byte {
	b = append(b, 0x10)
	b = appendVarint(b, 10+2+len(clientID)+2+len(user)+2+len(password))
	b = appendString(b, "MQTT")
	b = append(b, 4, 0xC2, 0, 0)
	for _, s := range []string{clientID, user, password} {
		b = appendString(b, s)
	}
	return b
}

// AppendConnectAuth appends a CONNECT of MQTT 5 with clean start, no keep-alive, and the first message of an authentication method
// (MQTT 5, 4.12).
func AppendConnectAuth(b []byte, clientID, method string, data []byte) []byte {
	props := appendAuth(nil, method, data)
	b = append(b, 0x10)
	b = appendVarint(b, 10+varintLen(len(props))+len(props)+2+len(clientID))
	b = appendString(b, "MQTT")
	b = append(b, 5, 0x02, 0, 0)
	b = appendVarint(b, len(props))
	b = append(b, props...)
	return appendString(b, clientID)
}

// AppendAuth appends an AUTH of MQTT 5 that goes on with a method.
func AppendAuth(b []byte, method string, data []byte) []byte {
	props := appendAuth(nil, method, data)
	b = append(b, Auth)
	b = appendVarint(b, 1+varintLen(len(props))+len(props))
	b = append(b, 0x18)
	b = appendVarint(b, len(props))
	return append(b, props...)
}

// appendAuth appends the properties Authentication Method and Authentication Data.
func appendAuth(b []byte, method string, data []byte) []byte {
	b = appendString(append(b, 0x15), method)
	return appendString(append(b, 0x16), string(data))
}

func varintLen(n int) int { return len(appendVarint(nil, n)) }

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
