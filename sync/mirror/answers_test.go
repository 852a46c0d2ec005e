package mirror

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Whatever the centre answers, also that it failed where it did what it was asked: the records arrive once.
// (That another producer was fenced is answered slowly, and has tests of its own.)
func TestEveryAnswer(t *testing.T) {
	t.Parallel()
	answers := map[kmsg.Key][]*kerr.Error{
		kmsg.Produce: {
			kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
			kerr.UnknownTopicOrPartition, kerr.KafkaStorageError, kerr.ConcurrentTransactions, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID,
			kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.TransactionAbortable, kerr.UnknownServerError, kerr.NetworkException,
			kerr.CorruptMessage, kerr.UnsupportedVersion, kerr.ThrottlingQuotaExceeded,
		},
		kmsg.TxnOffsetCommit: {
			kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions, kerr.RequestTimedOut,
			kerr.UnstableOffsetCommit, kerr.OffsetMetadataTooLarge, kerr.GroupAuthorizationFailed, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
			kerr.TransactionAbortable, kerr.UnknownServerError, kerr.UnknownTopicOrPartition,
		},
		kmsg.EndTxn: {
			kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions, kerr.RequestTimedOut,
			kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.TransactionAbortable, kerr.UnknownServerError,
		},
		kmsg.InitProducerID: {
			kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions, kerr.TransactionalIDAuthorizationFailed,
			kerr.UnknownServerError, kerr.RequestTimedOut,
		},
		kmsg.OffsetFetch: {
			kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnstableOffsetCommit, kerr.GroupAuthorizationFailed, kerr.UnknownServerError,
		},
		kmsg.AddPartitionsToTxn: {
			kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.UnknownTopicOrPartition, kerr.InvalidTxnState, kerr.UnknownServerError,
			kerr.OperationNotAttempted,
		},
		kmsg.AddOffsetsToTxn: {
			kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.GroupAuthorizationFailed, kerr.InvalidTxnState, kerr.UnknownServerError,
		},
		kmsg.Metadata:     {kerr.LeaderNotAvailable, kerr.TopicAuthorizationFailed, kerr.UnknownServerError},
		kmsg.CreateTopics: {kerr.RequestTimedOut, kerr.NotController, kerr.TopicAuthorizationFailed},
	}
	for _, tv := range []protocol{tv1, tv2} {
		for key, errs := range answers {
			if added := key == kmsg.AddPartitionsToTxn || key == kmsg.AddOffsetsToTxn; added && tv == tv2 {
				continue // it does without them
			}
			t.Run(string(tv)+"/"+key.Name(), func(t *testing.T) {
				t.Parallel()
				c := newCentre(t, tv)
				h := openHere(t, t.TempDir())
				p := h.topic(t, "telemetry", 2).Partitions
				o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
				u := start(t, o)
				h.append(t, p[1], 10, 100)
				for _, err := range errs {
					u.mirrored(t)
					onOpen := key == kmsg.InitProducerID || key == kmsg.OffsetFetch || key == kmsg.Metadata || key == kmsg.CreateTopics
					if onOpen {
						u.stop()
					}
					if key == kmsg.CreateTopics {
						_ = c.DeleteTopic(progressTopic) // and the positions in it
					}
					top := key == kmsg.EndTxn || key == kmsg.InitProducerID || key == kmsg.AddOffsetsToTxn
					f := c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: 1, TopLevel: top})
					h.append(t, p[0], 20, 100)
					if onOpen {
						u = start(t, o)
					}
					if err := f.Wait(t.Context(), 1); err != nil {
						t.Fatal(err)
					}
					h.append(t, p[1], 20, 100)
					u.mirrored(t)
					f.Remove()
				}
				equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
			})
		}
	}
}
