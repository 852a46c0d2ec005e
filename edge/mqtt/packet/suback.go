package packet

import "encoding/binary"

// Suback is a SUBACK or an UNSUBACK: they have one form. Before MQTT 5 an UNSUBACK has no reasons and SUBACK knows the
// granted QoS and 0x80.
type Suback struct {
	ID         uint16
	Properties Properties
	Reasons    []Reason
}

// Append appends the packet as t, SUBACK or UNSUBACK.
func (s *Suback) Append(dst []byte, t Type, v Version) []byte {
	dst = append(dst, byte(t)<<4)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, s.ID)
	if v >= V5 {
		dst = s.Properties.append(dst)
	}
	for _, r := range s.Reasons {
		switch {
		case v >= V5:
			dst = append(dst, byte(r))
		case t == SUBACK && r.Failed():
			dst = append(dst, byte(Unspecified))
		case t == SUBACK:
			dst = append(dst, byte(r))
		}
	}
	return closeLength(dst, at)
}

// Decode reads the packet whose first byte is first.
func (s *Suback) Decode(v Version, first byte, body []byte) error {
	s.Properties, s.Reasons = Properties{}, s.Reasons[:0]
	if err := checkFlags(first); err != nil {
		return err
	}
	if len(body) < 2 {
		return errTruncated
	}
	s.ID = binary.BigEndian.Uint16(body)
	rest, err := body[2:], error(nil)
	if v >= V5 {
		if rest, err = s.Properties.cut(TypeOf(first), rest); err != nil {
			return err
		}
	} else if TypeOf(first) == UNSUBACK && len(rest) > 0 {
		return malformed("UNSUBACK is too long")
	}
	for _, r := range rest {
		if v < V5 && r > 2 && r != 0x80 {
			return malformed("unknown return code (MQTT-3.9.3-2)")
		}
		s.Reasons = append(s.Reasons, Reason(r))
	}
	return nil
}
