package mqtt

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// prepareTails encodes, with the first publish of a connection, the headers of a message without properties: mqtt.qos, mqtt.retain, mqtt.client.
func (c *conn) prepareTails() {
	c.tails = new([3][2][]byte)
	for qos := range c.tails {
		for retain := range c.tails[qos] {
			c.tails[qos][retain] = tailOf(c.id, qos, retain)
		}
	}
}

func tailOf(client string, qos, retain int) (b []byte) {
	if qos > 0 {
		b = appendHeader(b, edge.HeaderQoS, strconv.Itoa(qos))
	}
	if retain > 0 {
		b = appendHeader(b, edge.HeaderRetain, "1")
	}
	return appendHeader(b, edge.HeaderClient, client)
}

// appendRecord appends a record payload: the target's key, value, and headers (INTERFACE, Record of a publish). user and props
// are nil where there are none.
func appendRecord(dst []byte, t *edge.Target, p *packet.Publish, tail []byte) []byte {
	dst = append(dst, t.Head...)
	dst = binary.AppendVarint(dst, int64(len(p.Payload)))
	dst = append(dst, p.Payload...)
	n := int64(2) // mqtt.topic, mqtt.client
	if p.QoS > 0 {
		n++
	}
	if p.Retain {
		n++
	}
	if p.Properties.Empty() {
		dst = binary.AppendVarint(dst, n)
		dst = append(dst, t.TopicHeader...)
		return append(dst, tail...)
	}
	dst = binary.AppendVarint(dst, n+propertyHeaders(&p.Properties))
	dst = append(dst, t.TopicHeader...)
	dst = append(dst, tail...)
	return appendPropertyHeaders(dst, &p.Properties)
}

// recordSize is a bound of what appendRecord appends.
func recordSize(t *edge.Target, p *packet.Publish, tail []byte, properties int) int {
	n := len(t.Head) + len(t.TopicHeader) + len(p.Payload) + len(tail) + 3*binary.MaxVarintLen32
	if properties > 0 {
		// Each property takes at least three bytes; its header adds at most a long name and lengths.
		n += properties + (properties/3+1)*32
	}
	return n
}

// propertyHeaders is how many headers appendPropertyHeaders makes.
func propertyHeaders(p *packet.Properties) (n int64) {
	for _, id := range [...]packet.PropertyID{
		packet.PropPayloadFormat, packet.PropMessageExpiry, packet.PropContentType, packet.PropResponseTopic, packet.PropCorrelationData,
	} {
		if p.Has(id) {
			n++
		}
	}
	for range p.User {
		n++
	}
	return n
}

func appendPropertyHeaders(dst []byte, p *packet.Properties) []byte {
	var number [10]byte
	if p.Has(packet.PropPayloadFormat) {
		dst = appendHeader(dst, edge.HeaderPayloadFormat, strconv.AppendUint(number[:0], uint64(p.PayloadFormat), 10))
	}
	if p.Has(packet.PropMessageExpiry) {
		dst = appendHeader(dst, edge.HeaderExpiry, strconv.AppendUint(number[:0], uint64(p.MessageExpiry), 10))
	}
	if p.Has(packet.PropContentType) {
		dst = appendHeader(dst, edge.HeaderContentType, p.ContentType)
	}
	if p.Has(packet.PropResponseTopic) {
		dst = appendHeader(dst, edge.HeaderResponseTopic, p.ResponseTopic)
	}
	if p.Has(packet.PropCorrelationData) {
		dst = appendHeader(dst, edge.HeaderCorrelation, p.CorrelationData)
	}
	for key, value := range p.User {
		if reserved(key) {
			dst = binary.AppendVarint(dst, int64(len(userPrefix)+len(key)))
			dst = append(dst, userPrefix...)
		} else {
			dst = binary.AppendVarint(dst, int64(len(key)))
		}
		dst = append(dst, key...)
		dst = binary.AppendVarint(dst, int64(len(value)))
		dst = append(dst, value...)
	}
	return dst
}

func appendHeader[T string | []byte](dst []byte, name string, value T) []byte {
	dst = binary.AppendVarint(dst, int64(len(name)))
	dst = append(dst, name...)
	dst = binary.AppendVarint(dst, int64(len(value)))
	return append(dst, value...)
}

// User properties whose names would pass for ours get a prefix, which is taken off again on delivery. So that nothing is
// taken off that was not put on, names that look prefixed get one more.
const userPrefix = "user."

func reserved(key []byte) bool {
	for bytes.HasPrefix(key, []byte(userPrefix)) {
		key = key[len(userPrefix):]
	}
	return bytes.HasPrefix(key, []byte("mqtt."))
}
