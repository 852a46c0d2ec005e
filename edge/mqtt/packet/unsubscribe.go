package packet

import "encoding/binary"

// Unsubscribe is an UNSUBSCRIBE.
type Unsubscribe struct {
	ID         uint16
	Properties Properties
	Filters    [][]byte
}

// Decode reads the packet whose first byte is first.
func (u *Unsubscribe) Decode(v Version, first byte, body []byte) error {
	u.Filters = u.Filters[:0]
	var s Subscribe
	rest, err := s.head(v, first, UNSUBSCRIBE, body)
	u.ID, u.Properties = s.ID, s.Properties
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		var f []byte
		if f, rest, err = cutText(rest); err != nil {
			return err
		}
		u.Filters = append(u.Filters, f)
	}
	if len(u.Filters) == 0 {
		return protocol("UNSUBSCRIBE without a filter (MQTT-3.10.3-2)")
	}
	return nil
}

// Append appends the packet.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	dst = append(dst, byte(UNSUBSCRIBE)<<4|2)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, u.ID)
	if v >= V5 {
		dst = u.Properties.append(dst)
	}
	for _, f := range u.Filters {
		dst = appendBytes(dst, f)
	}
	return closeLength(dst, at)
}
