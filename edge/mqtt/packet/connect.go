package packet

import "encoding/binary"

// Connect is a CONNECT.
type Connect struct {
	Version    Version
	Bridge     bool // the high bit of the protocol level: a Mosquitto bridge, which does not want its own messages back
	Foreign    bool // the protocol name is none of MQTT's
	CleanStart bool
	KeepAlive  uint16
	ClientID   []byte
	Properties Properties

	HasWill        bool
	WillQoS        byte
	WillRetain     bool
	WillTopic      []byte
	WillPayload    []byte
	WillProperties Properties

	HasUser     bool
	HasPassword bool
	User        []byte
	Password    []byte
}

// Decode reads the packet whose first byte is first. When the error is about the protocol level, Version holds what was
// asked for.
func (c *Connect) Decode(first byte, body []byte) error {
	*c = Connect{}
	if err := checkFlags(first); err != nil {
		return err
	}
	name, rest, ok := cut16(body)
	if !ok || len(rest) < 1 {
		return errTruncated
	}
	level := rest[0]
	c.Version, c.Bridge = Version(level&0x7f), level&0x80 != 0
	switch string(name) {
	case "MQTT":
		if c.Version != V311 && (c.Version != V5 || c.Bridge) {
			return &Error{UnsupportedVersion, "unknown protocol level (MQTT-3.1.2-2)"}
		}
	case "MQIsdp":
		if c.Version != V31 {
			return &Error{UnsupportedVersion, "unknown protocol level (MQTT-3.1.2-2)"}
		}
	default:
		c.Version = 0
		c.Foreign = true
		return &Error{UnsupportedVersion, "protocol name is not MQTT (MQTT-3.1.2-1)"}
	}
	if len(rest) < 4 {
		return errTruncated
	}
	flags := rest[1]
	c.KeepAlive = binary.BigEndian.Uint16(rest[2:])
	if err := c.flags(flags); err != nil {
		return err
	}
	rest = rest[4:]
	var err error
	if c.Version >= V5 {
		if rest, err = c.Properties.cut(CONNECT, rest); err != nil {
			return err
		}
	}
	if c.ClientID, rest, err = cutText(rest); err != nil {
		return err
	}
	if c.HasWill {
		if rest, err = c.decodeWill(rest); err != nil {
			return err
		}
	}
	if c.HasUser {
		if c.User, rest, err = cutText(rest); err != nil {
			return err
		}
	}
	if c.HasPassword {
		if c.Password, rest, ok = cut16(rest); !ok {
			return errTruncated
		}
	}
	if len(rest) > 0 {
		return malformed("bytes behind the last field")
	}
	return nil
}

func (c *Connect) flags(f byte) error {
	c.CleanStart, c.HasWill, c.WillQoS, c.WillRetain = f&2 != 0, f&4 != 0, f>>3&3, f&0x20 != 0
	c.HasPassword, c.HasUser = f&0x40 != 0, f&0x80 != 0
	switch {
	case f&1 != 0:
		return malformed("reserved connect flag is set (MQTT-3.1.2-3)")
	case !c.HasWill && (c.WillQoS != 0 || c.WillRetain):
		return malformed("will QoS or retain without a will (MQTT-3.1.2-11)")
	case c.WillQoS == 3:
		return malformed("will QoS 3 (MQTT-3.1.2-12)")
	case c.HasPassword && !c.HasUser && c.Version < V5:
		return malformed("password without a user name (MQTT-3.1.2-22)")
	}
	return nil
}

func (c *Connect) decodeWill(b []byte) (rest []byte, err error) {
	rest = b
	if c.Version >= V5 {
		if rest, err = c.WillProperties.cut(0, rest); err != nil {
			return nil, err
		}
	}
	if c.WillTopic, rest, err = cutText(rest); err != nil {
		return nil, err
	}
	if !ValidTopic(c.WillTopic) {
		return nil, &Error{InvalidTopic, "will topic is empty or holds wildcards (MQTT-3.3.2-2)"}
	}
	var ok bool
	if c.WillPayload, rest, ok = cut16(rest); !ok {
		return nil, errTruncated
	}
	return rest, nil
}

func cutText(b []byte) (text, rest []byte, err error) {
	text, rest, ok := cut16(b)
	if !ok {
		return nil, nil, errTruncated
	}
	if !ValidText(text) {
		return nil, nil, malformed("string is not UTF-8 or holds U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2)")
	}
	return text, rest, nil
}

// Append appends the packet.
func (c *Connect) Append(dst []byte) []byte {
	name, level, flags := "MQTT", byte(c.Version), byte(0)
	if c.Version == V31 {
		name = "MQIsdp"
	}
	if c.Bridge {
		level |= 0x80
	}
	for bit, on := range [8]bool{1: c.CleanStart, 2: c.HasWill, 5: c.WillRetain, 6: c.HasPassword, 7: c.HasUser} {
		if on {
			flags |= 1 << bit
		}
	}
	flags |= c.WillQoS << 3
	dst = append(dst, byte(CONNECT)<<4)
	at := len(dst)
	dst = append(appendBytes(dst, name), level, flags, byte(c.KeepAlive>>8), byte(c.KeepAlive))
	if c.Version >= V5 {
		dst = c.Properties.append(dst)
	}
	dst = appendBytes(dst, c.ClientID)
	if c.HasWill {
		if c.Version >= V5 {
			dst = c.WillProperties.append(dst)
		}
		dst = appendBytes(appendBytes(dst, c.WillTopic), c.WillPayload)
	}
	if c.HasUser {
		dst = appendBytes(dst, c.User)
	}
	if c.HasPassword {
		dst = appendBytes(dst, c.Password)
	}
	return closeLength(dst, at)
}
