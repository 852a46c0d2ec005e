package packet

// Connack is a CONNACK. Reason is always an MQTT 5 code; Append translates it for older versions.
type Connack struct {
	SessionPresent bool
	Reason         Reason
	Properties     Properties
}

// Return codes of MQTT 3.1.1, 3.2.2.3.
const (
	refusedVersion     = 1
	refusedClientID    = 2
	refusedUnavailable = 3
	refusedCredentials = 4
	refusedNotAllowed  = 5
)

// Append appends the packet.
func (c *Connack) Append(dst []byte, v Version) []byte {
	present := byte(0)
	if c.SessionPresent && v != V31 { // where that byte is reserved
		present = 1
	}
	if v < V5 {
		return append(dst, byte(CONNACK)<<4, 2, present, oldReturnCode(c.Reason))
	}
	dst = append(dst, byte(CONNACK)<<4)
	at := len(dst)
	dst = append(dst, present, byte(c.Reason))
	return closeLength(c.Properties.append(dst), at)
}

func oldReturnCode(r Reason) byte {
	switch r {
	case Success:
		return 0
	case UnsupportedVersion:
		return refusedVersion
	case InvalidClientID:
		return refusedClientID
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return refusedCredentials
	case NotAuthorized, Banned:
		return refusedNotAllowed
	}
	return refusedUnavailable
}

// Decode reads the packet whose first byte is first.
func (c *Connack) Decode(v Version, first byte, body []byte) error {
	*c = Connack{}
	if err := checkFlags(first); err != nil {
		return err
	}
	if len(body) < 2 {
		return errTruncated
	}
	if body[0] > 1 {
		return malformed("reserved acknowledge flags (MQTT-3.2.2-1)")
	}
	c.SessionPresent = body[0] == 1
	if v < V5 {
		c.Reason = [...]Reason{Success, UnsupportedVersion, InvalidClientID, ServerUnavailable, BadUserNameOrPassword, NotAuthorized}[min(body[1], 5)]
		if len(body) > 2 || body[1] > refusedNotAllowed {
			return malformed("CONNACK is too long or has an unknown return code")
		}
		return nil
	}
	c.Reason = Reason(body[1])
	rest, err := c.Properties.cut(CONNACK, body[2:])
	if err == nil && len(rest) > 0 {
		err = malformed("bytes behind the properties")
	}
	return err
}
