package kafka

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// errorCodes is THE table of what the broker's errors are to a Kafka client; the first match counts.
func errorCodes() []errorCode {
	return []errorCode{
		// Access and names.
		{edge.ErrNotAuthorized, kerr.TopicAuthorizationFailed},
		{edge.ErrInternal, kerr.TopicAuthorizationFailed},
		{edge.ErrInvalidTopic, kerr.InvalidTopicException},
		{edge.ErrInvalidConfig, kerr.InvalidConfig},
		{edge.ErrCompacted, kerr.PolicyViolation},
		{edge.ErrNoTopic, kerr.UnknownTopicOrPartition},
		{edge.ErrTopicExists, kerr.TopicAlreadyExists},

		// Batches, as they come from outside.
		{batch.ErrMagic, kerr.UnsupportedForMessageFormat},
		{batch.ErrCodec, kerr.UnsupportedCompressionType},
		{batch.ErrTooLarge, kerr.MessageTooLarge},
		{batch.ErrCRC, kerr.CorruptMessage},
		{batch.ErrTruncated, kerr.CorruptMessage},
		{batch.ErrMalformed, kerr.InvalidRecord},
		{batch.ErrStamped, kerr.InvalidTimestamp},
		{edge.ErrRejected, kerr.InvalidRecord},
		{edge.ErrHalted, kerr.KafkaStorageError}, // until someone mends the plugin: clients try again

		// Producers.
		{edge.ErrOutOfOrder, kerr.OutOfOrderSequenceNumber},
		{edge.ErrFenced, kerr.InvalidProducerEpoch},
		{edge.ErrInvalidTxn, kerr.InvalidTxnState},
		{edge.ErrUnknownProducer, kerr.InvalidProducerIDMapping},
		{edge.ErrConcurrentTxn, kerr.ConcurrentTransactions},
		{edge.ErrTxnTimeout, kerr.InvalidTransactionTimeout},
		{edge.ErrTxnName, kerr.InvalidRequest},
		{edge.ErrTxnNotFound, kerr.TransactionalIDNotFound},

		// Groups.
		{edge.ErrGroupName, kerr.InvalidGroupID},
		{edge.ErrGroupNotFound, kerr.GroupIDNotFound},
		{edge.ErrGroupNotEmpty, kerr.NonEmptyGroup},
		{edge.ErrGroupFull, kerr.GroupMaxSizeReached},
		{edge.ErrUnknownMember, kerr.UnknownMemberID},
		{edge.ErrMemberIDRequired, kerr.MemberIDRequired},
		{edge.ErrFencedInstance, kerr.FencedInstanceID},
		{edge.ErrGeneration, kerr.IllegalGeneration},
		{edge.ErrRebalance, kerr.RebalanceInProgress},
		{edge.ErrGroupProtocol, kerr.InconsistentGroupProtocol},
		{edge.ErrSessionTimeout, kerr.InvalidSessionTimeout},
		{edge.ErrMetadataTooLarge, kerr.OffsetMetadataTooLarge},
		{edge.ErrCoordinatorClosed, kerr.CoordinatorNotAvailable},

		// The log. What a client may try again is an error that it does try again.
		{edge.ErrOffsetRange, kerr.OffsetOutOfRange},
		{edge.ErrTooLarge, kerr.MessageTooLarge},
		{edge.ErrFull, kerr.KafkaStorageError},
		{edge.ErrReadOnly, kerr.KafkaStorageError},
		{edge.ErrCorrupt, kerr.KafkaStorageError},
		{edge.ErrClosed, kerr.NotLeaderForPartition},
		{context.Canceled, kerr.NotLeaderForPartition},
		{context.DeadlineExceeded, kerr.RequestTimedOut},
	}
}

type errorCode struct {
	err   error
	kafka *kerr.Error
}

// errorTable is errorCodes made once; tables are read by many connections and changed by none.
type errorTable []errorCode

func (t errorTable) code(err error) int16 {
	if err == nil {
		return 0
	}
	for i := range t {
		if errors.Is(err, t[i].err) {
			return t[i].kafka.Code
		}
	}
	return kerr.UnknownServerError.Code
}

// code translates err.
func (c *conn) code(err error) int16 { return c.s.errors.code(err) }

// coordinatorCode translates err for requests to a coordinator, whose clients ask again on CoordinatorNotAvailable but
// not on what a partition's leader says. fenced is the code for a fenced producer, which changed with the version.
func (c *conn) coordinatorCode(err error, fenced *kerr.Error) int16 {
	switch {
	case errors.Is(err, edge.ErrFenced) && fenced != nil:
		return fenced.Code
	case errors.Is(err, edge.ErrFull), errors.Is(err, edge.ErrReadOnly), errors.Is(err, edge.ErrClosed),
		errors.Is(err, edge.ErrNoTopic), errors.Is(err, context.Canceled):
		return kerr.CoordinatorNotAvailable.Code
	}
	return c.code(err)
}

// maxMessage bounds a message in bytes: it may quote a request at length, and strings end at 32767 bytes in old versions.
const maxMessage = 1000

// message is what a client shows its user with a code.
func message(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return &s
}
