package mqtt

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage/batch"
)

// message is a record on its way to subscribers: read once, and encoded once per form. Its slices alias the record.
type message struct {
	topic     []byte
	value     []byte
	client    []byte // who published it by MQTT
	qos       byte
	retain    bool // as it was published
	timestamp int64
	part      *edge.Partition // where it lies in the log; nil for a retained copy, and for what is live
	live      bool            // it lies nowhere
	offset    int64
	payload   batch.Payload
	share     *share // that it is delivered for; nil: for the sessions' own subscriptions

	expires bool
	expiry  uint32 // seconds that were left when it arrived

	section []byte // properties but expiry and subscription ids, once needed
	built   bool
	forms   [2][3]form // by version (before 5, 5) and QoS
}

// form is an encoded PUBLISH whose packet id is to be filled in.
type form struct {
	bytes []byte
	id    int // where the packet id is
}

// read takes a record apart. What did not come by MQTT has no QoS of its own: it was stored, so it is worth QoS 1.
func (m *message) read(topic []byte, r batch.Record) {
	for v := range m.forms {
		for q := range m.forms[v] {
			m.forms[v][q].bytes = m.forms[v][q].bytes[:0]
		}
	}
	m.topic, m.value, m.payload, m.timestamp, m.offset = topic, r.Payload.Value(), r.Payload, r.Timestamp, r.Offset
	m.client, m.qos, m.retain, m.expires, m.expiry, m.built, m.live = nil, 0, false, false, 0, false, false
	for key, value := range r.Payload.EachHeader {
		switch string(key) {
		case edge.HeaderQoS:
			if len(value) == 1 && (value[0] == '1' || value[0] == '2') {
				m.qos = value[0] - '0'
			}
		case edge.HeaderRetain:
			m.retain = true
		case edge.HeaderClient:
			m.client = value
		case edge.HeaderExpiry:
			if n, err := strconv.ParseUint(string(value), 10, 32); err == nil {
				m.expires, m.expiry = true, uint32(n)
			}
		}
	}
	if m.client == nil && m.qos == 0 {
		m.qos = 1
	}
}

// properties builds the section once.
func (m *message) properties() []byte {
	if m.built {
		return m.section
	}
	m.built = true
	b := m.section[:0]
	for key, value := range m.payload.EachHeader {
		switch string(key) {
		case edge.HeaderTopic, edge.HeaderQoS, edge.HeaderRetain, edge.HeaderClient, edge.HeaderExpiry:
		case edge.HeaderPayloadFormat:
			if string(value) == "1" {
				b = append(b, byte(packet.PropPayloadFormat), 1)
			}
		case edge.HeaderContentType:
			b = appendText(b, packet.PropContentType, value)
		case edge.HeaderResponseTopic:
			if packet.ValidTopic(value) {
				b = appendText(b, packet.PropResponseTopic, value)
			}
		case edge.HeaderCorrelation:
			if len(value) <= math.MaxUint16 {
				b = append(b, byte(packet.PropCorrelationData))
				b = append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
			}
		default: // a Kafka producer may have put anything here
			if bytes.HasPrefix(key, []byte(userPrefix)) && reserved(key) {
				key = key[len(userPrefix):]
			}
			if len(key) <= math.MaxUint16 && len(value) <= math.MaxUint16 && packet.ValidText(key) && packet.ValidText(value) {
				b = packet.AppendUser(b, key, value)
			}
		}
	}
	m.section = b
	return b
}

func appendText(b []byte, id packet.PropertyID, text []byte) []byte {
	if len(text) > math.MaxUint16 || !packet.ValidText(text) {
		return b
	}
	b = append(b, byte(id))
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

// form returns the encoded PUBLISH for sessions that want nothing of their own in it.
func (m *message) form(v packet.Version, qos byte) *form {
	f := &m.forms[0][qos]
	if v >= packet.V5 {
		f = &m.forms[1][qos]
	}
	if len(f.bytes) == 0 {
		f.bytes, f.id = m.append(f.bytes, v, qos, m.expiry, nil, 0, false)
	}
	return f
}

// size is a bound of what append appends, with n subscription ids.
func (m *message) size(v packet.Version, n int) int {
	size := len(m.topic) + len(m.value) + 32
	if v >= packet.V5 {
		size += len(m.properties()) + 5*n
	}
	return size
}

// append encodes the PUBLISH and says where its packet id is to be written. alias, when not 0, is sent; bare leaves the topic out.
func (m *message) append(dst []byte, v packet.Version, qos byte, expiry uint32, ids []int, alias uint16, bare bool) ([]byte, int) {
	topic := m.topic
	if bare {
		topic = nil
	}
	n := 2 + len(topic) + len(m.value)
	if qos > 0 {
		n += 2
	}
	var section []byte
	props := 0
	if v >= packet.V5 {
		section = m.properties()
		props = len(section)
		if m.expires {
			props += 5
		}
		if alias > 0 {
			props += 3
		}
		for _, id := range ids {
			props += 1 + packet.VarintSize(id)
		}
		n += packet.VarintSize(props) + props
	}
	dst = append(dst, byte(packet.PUBLISH)<<4|qos<<1)
	dst = packet.AppendVarint(dst, n)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(topic)))
	dst = append(dst, topic...)
	at := len(dst)
	if qos > 0 {
		dst = append(dst, 0, 0)
	}
	if v >= packet.V5 {
		dst = packet.AppendVarint(dst, props)
		if m.expires {
			dst = binary.BigEndian.AppendUint32(append(dst, byte(packet.PropMessageExpiry)), expiry)
		}
		if alias > 0 {
			dst = binary.BigEndian.AppendUint16(append(dst, byte(packet.PropTopicAlias)), alias)
		}
		dst = append(dst, section...)
		for _, id := range ids {
			dst = packet.AppendVarint(append(dst, byte(packet.PropSubscriptionID)), id)
		}
	}
	return append(dst, m.value...), at
}
