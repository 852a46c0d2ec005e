package packet

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	ID         uint16
	Reason     Reason
	Properties Properties
}

// Decode reads the packet whose first byte is first.
func (a *Ack) Decode(v Version, first byte, body []byte) error {
	if err := checkFlags(withoutDup(v, first)); err != nil {
		return err
	}
	if len(body) < 2 {
		return errTruncated
	}
	a.ID, a.Reason = binary.BigEndian.Uint16(body), Success
	if a.Properties.set != 0 {
		a.Properties = Properties{}
	}
	if a.ID == 0 {
		return protocol("packet identifier 0 (MQTT-2.2.1-3)")
	}
	if len(body) == 2 {
		return nil
	}
	if v < V5 {
		return malformed("acknowledgement is too long")
	}
	a.Reason = Reason(body[2])
	if !validAck(TypeOf(first), a.Reason) {
		return protocol("reason code of another packet type (MQTT-3.4.2-1)")
	}
	if len(body) == 3 {
		return nil
	}
	rest, err := a.Properties.cut(TypeOf(first), body[3:])
	if err == nil && len(rest) > 0 {
		err = malformed("bytes behind the properties")
	}
	return err
}

func validAck(t Type, r Reason) bool {
	if t == PUBREL || t == PUBCOMP {
		return r == Success || r == PacketIDNotFound
	}
	switch r {
	case Success, NoMatchingSubscribers, Unspecified, ImplementationSpecific, NotAuthorized, InvalidTopic, PacketIDInUse,
		QuotaExceeded, InvalidPayloadFormat:
		return true
	}
	return false
}

// Append appends the packet as t with its properties, for MQTT 5.
func (a *Ack) Append(dst []byte, t Type) []byte {
	first := byte(t) << 4
	if t == PUBREL {
		first |= 2
	}
	dst = append(dst, first)
	at := len(dst)
	dst = append(dst, byte(a.ID>>8), byte(a.ID), byte(a.Reason))
	return closeLength(a.Properties.append(dst), at)
}

// AppendAck appends an acknowledgement without properties. Before MQTT 5 there is no reason.
func AppendAck(dst []byte, t Type, v Version, id uint16, r Reason) []byte {
	first := byte(t) << 4
	if t == PUBREL {
		first |= 2
	}
	if v < V5 || r == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(r))
}
