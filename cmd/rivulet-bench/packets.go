package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// MQTT 3.1.1 packet types, in the high four bits of the first byte.
const (
	typeConnack  = 0x20
	typePublish  = 0x30
	typePuback   = 0x40
	typePubrec   = 0x50
	typePubrel   = 0x62 // with its reserved flag
	typePubcomp  = 0x70
	typeSuback   = 0x90
	ackLen       = 4 // PUBACK, PUBREC, PUBREL and PUBCOMP of 3.1.1
	maxPacketIDs = 65535
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

// appendConnect appends a CONNECT of 3.1.1 with a clean session and no keep-alive.
func appendConnect(b []byte, clientID string) []byte {
	b = append(b, 0x10)
	b = appendVarint(b, 10+2+len(clientID))
	b = appendString(b, "MQTT")
	b = append(b, 4, 0x02, 0, 0)
	return appendString(b, clientID)
}

func appendSubscribe(b []byte, id uint16, filter string, qos byte) []byte {
	b = append(b, 0x82)
	b = appendVarint(b, 2+2+len(filter)+1)
	b = binary.BigEndian.AppendUint16(b, id)
	b = appendString(b, filter)
	return append(b, qos)
}

func appendPublish(b []byte, topic string, qos byte, id uint16, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	b = append(b, typePublish|qos<<1)
	b = appendVarint(b, n)
	b = appendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// telemetry appends a JSON reading of exactly size bytes (at least 16), different for every n.
func telemetry(b []byte, device, n, size int, rnd *rand.Rand) []byte {
	start := len(b)
	b = fmt.Appendf(b, `{"device":"dev-%05d","seq":%d,"ts":%d,"temperature":%.2f,"humidity":%.1f,"pressure":%.2f,"vibration":[%.3f,%.3f,%.3f],"state":"running","unit":"line-%d","note":"`,
		device, n, 1790000000000+int64(n)*100, 20+5*rnd.Float64(), 40+20*rnd.Float64(), 1000+20*rnd.Float64(),
		rnd.Float64(), rnd.Float64(), rnd.Float64(), device%10)
	for len(b)-start < size {
		b = append(b, '.')
	}
	b = b[:start+size]
	copy(b[start+size-2:], `"}`)
	return b
}
