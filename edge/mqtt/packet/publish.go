package packet

import "encoding/binary"

// Publish is a PUBLISH.
type Publish struct {
	Topic      []byte // empty when an alias stands for it
	Payload    []byte
	ID         uint16 // 0 for QoS 0
	QoS        byte
	Dup        bool
	Retain     bool
	Properties Properties
}

// Decode reads the packet whose first byte is first.
func (p *Publish) Decode(v Version, first byte, body []byte) error {
	p.QoS, p.Dup, p.Retain, p.ID = first>>1&3, first&8 != 0, first&1 != 0, 0
	switch {
	case p.QoS == 3:
		return malformed("QoS 3 (MQTT-3.3.1-4)")
	case p.QoS == 0 && p.Dup:
		return malformed("DUP with QoS 0 (MQTT-3.3.1-2)")
	}
	topic, rest, ok := cut16(body)
	if !ok {
		return errTruncated
	}
	p.Topic = topic
	if p.QoS > 0 {
		if len(rest) < 2 {
			return errTruncated
		}
		p.ID = binary.BigEndian.Uint16(rest)
		if rest = rest[2:]; p.ID == 0 {
			return protocol("packet identifier 0 (MQTT-2.2.1-3)")
		}
	}
	if v >= V5 {
		var err error
		if rest, err = p.Properties.cut(PUBLISH, rest); err != nil {
			return err
		}
		if len(topic) == 0 && p.Properties.Has(PropTopicAlias) {
			p.Payload = rest
			return nil
		}
	} else if p.Properties.set != 0 {
		p.Properties = Properties{}
	}
	if !ValidTopic(topic) {
		if len(topic) > 0 && ValidText(topic) {
			return &Error{InvalidTopic, "topic name with wildcards (MQTT-3.3.2-2)"}
		}
		if len(topic) == 0 {
			return protocol("empty topic name without an alias (MQTT-4.7.3-1)")
		}
		return malformed("topic name is not UTF-8 or holds U+0000 (MQTT-3.3.2-1)")
	}
	p.Payload = rest
	return nil
}

// Append appends the packet.
func (p *Publish) Append(dst []byte, v Version) []byte {
	first := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Dup {
		first |= 8
	}
	if p.Retain {
		first |= 1
	}
	at := len(dst) + 1
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	plain := v < V5 || p.Properties.set == 0 && len(p.Properties.UserRaw) == 0
	dst = append(dst, first)
	if plain { // the length is known beforehand
		if v >= V5 {
			n++
		}
		dst = AppendVarint(dst, n)
	}
	dst = appendBytes(dst, p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.ID)
	}
	if v >= V5 {
		dst = p.Properties.append(dst)
	}
	dst = append(dst, p.Payload...)
	if !plain {
		dst = closeLength(dst, at)
	}
	return dst
}
