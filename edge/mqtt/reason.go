package mqtt

import (
	"errors"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// reasonOf translates the broker's errors into reason codes of PUBACK, PUBREC and SUBACK.
func reasonOf(err error) packet.Reason {
	var p *packet.Error
	switch {
	case err == nil:
		return packet.Success
	case errors.As(err, &p):
		return p.Reason
	case errors.Is(err, edge.ErrNotAuthorized):
		return packet.NotAuthorized
	case errors.Is(err, edge.ErrInvalidTopic), errors.Is(err, edge.ErrInternal):
		return packet.InvalidTopic
	case errors.Is(err, edge.ErrRejected), errors.Is(err, edge.ErrTooLarge), errors.Is(err, edge.ErrHalted):
		return packet.ImplementationSpecific
	case full(err):
		return packet.QuotaExceeded
	}
	return packet.Unspecified
}

// textOf explains a refusal to people who look at a client's log (MQTT 5, 3.4.2.2.2); "" when the code says it all.
func textOf(r packet.Reason) string {
	switch r {
	case packet.NotAuthorized:
		return "not authorized for this topic"
	case packet.InvalidTopic:
		return "topic name is reserved, or has too many levels"
	case packet.InvalidFilter:
		return "topic filter is malformed, or has too many levels"
	case packet.ImplementationSpecific:
		return "message is too large for the log, or a plugin refused it"
	case packet.QuotaExceeded:
		return "the store is full, or the client has too many subscriptions"
	}
	return ""
}

// mayExplain reports whether a packet of size bytes with a reason string may be sent (MQTT-3.1.2-29, MQTT-3.4.2-2).
func (c *conn) mayExplain(size int) bool {
	return c.version >= packet.V5 && c.problems && size <= c.maxSend
}

// full reports whether the store takes no records at present. It ends by itself.
func full(err error) bool { return errors.Is(err, edge.ErrFull) || errors.Is(err, edge.ErrReadOnly) }

// permanent reports whether trying again with the same topic will fail in the same way.
func permanent(err error) bool {
	return errors.Is(err, edge.ErrInvalidTopic) || errors.Is(err, edge.ErrInternal) || errors.Is(err, edge.ErrNotAuthorized) ||
		errors.Is(err, edge.ErrInvalidConfig)
}
