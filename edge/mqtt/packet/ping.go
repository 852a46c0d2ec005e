package packet

// CheckPing reads a PINGREQ or PINGRESP whose first byte is first.
func CheckPing(first byte, body []byte) error {
	if err := checkFlags(first); err != nil {
		return err
	}
	if len(body) > 0 {
		return malformed("ping with a body")
	}
	return nil
}

// AppendPing appends t, PINGREQ or PINGRESP.
func AppendPing(dst []byte, t Type) []byte { return append(dst, byte(t)<<4, 0) }
