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

// full reports whether the store takes no records at present. It ends by itself.
func full(err error) bool { return errors.Is(err, edge.ErrFull) || errors.Is(err, edge.ErrReadOnly) }

// permanent reports whether trying again with the same topic will fail in the same way.
func permanent(err error) bool {
	return errors.Is(err, edge.ErrInvalidTopic) || errors.Is(err, edge.ErrInternal) || errors.Is(err, edge.ErrNotAuthorized) ||
		errors.Is(err, edge.ErrInvalidConfig)
}
