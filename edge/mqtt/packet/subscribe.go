package packet

import "encoding/binary"

// Subscribe is a SUBSCRIBE.
type Subscribe struct {
	ID         uint16
	Properties Properties
	Topics     []Subscription
}

// Subscription is one filter of a SUBSCRIBE.
type Subscription struct {
	Filter            []byte // may begin with $share/NAME/; its wildcards are the caller's to check: SUBACK has a code for them
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages, 1: only if the subscription is new, 2: never
}

// Decode reads the packet whose first byte is first.
func (s *Subscribe) Decode(v Version, first byte, body []byte) error {
	s.Topics = s.Topics[:0]
	rest, err := s.head(v, first, SUBSCRIBE, body)
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		var t Subscription
		if t.Filter, rest, err = cutText(rest); err != nil {
			return err
		}
		if len(rest) < 1 {
			return errTruncated
		}
		if err := t.options(v, rest[0]); err != nil {
			return err
		}
		rest = rest[1:]
		s.Topics = append(s.Topics, t)
	}
	if len(s.Topics) == 0 {
		return protocol("SUBSCRIBE without a filter (MQTT-3.8.3-2)")
	}
	return nil
}

func (s *Subscribe) head(v Version, first byte, t Type, body []byte) (rest []byte, err error) {
	if err := checkFlags(withoutDup(v, first)); err != nil {
		return nil, err
	}
	if len(body) < 2 {
		return nil, errTruncated
	}
	s.ID = binary.BigEndian.Uint16(body)
	if s.ID == 0 {
		return nil, protocol("packet identifier 0 (MQTT-2.2.1-3)")
	}
	s.Properties = Properties{}
	rest = body[2:]
	if v >= V5 {
		rest, err = s.Properties.cut(t, rest)
	}
	return rest, err
}

func (t *Subscription) options(v Version, o byte) error {
	t.QoS = o & 3
	if t.QoS == 3 {
		return malformed("requested QoS 3 (MQTT-3.8.3-5)")
	}
	if v < V5 {
		if o&^3 != 0 {
			return malformed("reserved subscription bits (MQTT-3.8.3-4)")
		}
		return nil
	}
	t.NoLocal, t.RetainAsPublished, t.RetainHandling = o&4 != 0, o&8 != 0, o>>4&3
	switch {
	case o&0xc0 != 0:
		return malformed("reserved subscription bits (MQTT-3.8.3-5)")
	case t.RetainHandling == 3:
		return protocol("retain handling 3 (MQTT 5, 3.8.3.1)")
	case t.NoLocal && len(t.Filter) >= 7 && string(t.Filter[:7]) == "$share/":
		return protocol("no local on a shared subscription (MQTT-3.8.3-4)")
	}
	return nil
}

// Append appends the packet.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	dst = append(dst, byte(SUBSCRIBE)<<4|2)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, s.ID)
	if v >= V5 {
		dst = s.Properties.append(dst)
	}
	for _, t := range s.Topics {
		o := t.QoS
		if v >= V5 {
			o |= t.RetainHandling << 4
			if t.NoLocal {
				o |= 4
			}
			if t.RetainAsPublished {
				o |= 8
			}
		}
		dst = append(appendBytes(dst, t.Filter), o)
	}
	return closeLength(dst, at)
}
