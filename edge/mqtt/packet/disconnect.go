package packet

// Disconnect is a DISCONNECT, or an AUTH: they have one form.
type Disconnect struct {
	Reason     Reason
	Properties Properties
}

// Decode reads the packet whose first byte is first.
func (d *Disconnect) Decode(v Version, first byte, body []byte) error {
	*d = Disconnect{}
	if err := checkFlags(first); err != nil {
		return err
	}
	t := TypeOf(first)
	switch {
	case v < V5 && t == AUTH:
		return protocol("AUTH before MQTT 5")
	case v < V5 && len(body) > 0:
		return malformed("DISCONNECT with a body")
	case len(body) == 0:
		return nil
	}
	d.Reason = Reason(body[0])
	if !validDisconnect(t, d.Reason) {
		return protocol("reason code of another packet type (MQTT-3.14.2-1)")
	}
	if len(body) == 1 {
		return nil
	}
	rest, err := d.Properties.cut(t, body[1:])
	if err == nil && len(rest) > 0 {
		err = malformed("bytes behind the properties")
	}
	return err
}

func validDisconnect(t Type, r Reason) bool {
	if t == AUTH {
		return r == Success || r == ContinueAuthentication || r == ReAuthenticate
	}
	switch r {
	case Success, DisconnectWithWill:
		return true
	case UnsupportedVersion, InvalidClientID, BadUserNameOrPassword, ServerUnavailable, Banned, BadAuthenticationMethod, PacketIDInUse, PacketIDNotFound:
		return false
	}
	return r >= Unspecified && r <= WildcardNotSupported
}

// Append appends the packet as t, DISCONNECT or AUTH.
func (d *Disconnect) Append(dst []byte, t Type, v Version) []byte {
	if v < V5 || d.Reason == Success && d.Properties.Empty() {
		return append(dst, byte(t)<<4, 0)
	}
	dst = append(dst, byte(t)<<4)
	at := len(dst)
	dst = append(dst, byte(d.Reason))
	if !d.Properties.Empty() {
		dst = d.Properties.append(dst)
	}
	return closeLength(dst, at)
}
