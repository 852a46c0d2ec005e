package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

func txnClient(b *broker, id string, opts ...kgo.Opt) *kgo.Client {
	return b.client(append([]kgo.Opt{kgo.TransactionalID(id), kgo.TransactionTimeout(20 * time.Second)}, opts...)...)
}

func committedReader(b *broker, topics ...string) *kgo.Client {
	return b.client(kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
}

func endTxn(t *testing.T, cl *kgo.Client, how kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.EndTransaction(withTimeout(t), how); err != nil {
		t.Fatal(err)
	}
}

func beginTxn(t *testing.T, cl *kgo.Client) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsCommitAndAbort(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 3})
	cl := txnClient(b, "writer")
	var want []string
	for round := range 6 {
		beginTxn(t, cl)
		values := numbered(fmt.Sprintf("round-%d", round), 20)
		produceAll(t, cl, "tx", values...)
		if round%2 == 0 {
			endTxn(t, cl, kgo.TryCommit)
			want = append(want, values...)
		} else {
			endTxn(t, cl, kgo.TryAbort)
		}
	}
	got := valuesOf(consume(t, committedReader(b, "tx"), len(want)))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("read_committed reads %d values, want %d: %v", len(got), len(want), got)
	}
	all := b.client(kgo.ConsumeTopics("tx"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, all, 120) // read_uncommitted sees what was aborted, too
}

func TestOpenTransactionHoldsUpReaders(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 1})
	cl := txnClient(b, "writer")
	beginTxn(t, cl)
	produceAll(t, cl, "tx", "in the transaction")
	produceAll(t, b.client(), "tx", "behind it")
	list := func(isolation int8) int64 {
		req := kmsg.NewPtrListOffsetsRequest()
		req.IsolationLevel = isolation
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "tx", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}
		return call[*kmsg.ListOffsetsResponse](b, req, 6).Topics[0].Partitions[0].Offset
	}
	if stable, high := list(1), list(0); stable != 0 || high != 2 {
		t.Errorf("last stable offset %d, high watermark %d; want 0 and 2", stable, high)
	}
	endTxn(t, cl, kgo.TryCommit)
	if stable := list(1); stable != 3 {
		t.Errorf("after the commit the last stable offset is %d, want 3", stable)
	}
	if got := valuesOf(consume(t, committedReader(b, "tx"), 2)); !slices.Equal(got, []string{"in the transaction", "behind it"}) {
		t.Errorf("got %v", got)
	}
}

func TestTransactionSurvivesRestart(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 1}, edge.TopicSpec{Name: "in", Partitions: 1})
	cl := txnClient(b, "writer")
	beginTxn(t, cl)
	produceAll(t, cl, "tx", "before")
	b.restart()
	produceAll(t, cl, "tx", "after")
	endTxn(t, cl, kgo.TryCommit)
	if got := valuesOf(consume(t, committedReader(b, "tx"), 2)); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("got %v", got)
	}
}

func TestSecondProducerFencesFirst(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 1})
	old := txnClient(b, "same")
	beginTxn(t, old)
	produceAll(t, old, "tx", "lost")
	next := txnClient(b, "same")
	beginTxn(t, next)
	produceAll(t, next, "tx", "kept")
	endTxn(t, next, kgo.TryCommit)
	err := old.ProduceSync(withTimeout(t), &kgo.Record{Topic: "tx", Value: []byte("zombie")}).FirstErr()
	if err == nil {
		err = old.EndTransaction(withTimeout(t), kgo.TryCommit)
	}
	if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("the fenced producer got %v", err)
	}
	beginTxn(t, next)
	produceAll(t, next, "tx", "more")
	endTxn(t, next, kgo.TryCommit)
	if got := valuesOf(consume(t, committedReader(b, "tx"), 2)); !slices.Equal(got, []string{"kept", "more"}) {
		t.Errorf("read_committed reads %v", got)
	}
}

// TestCopyExactlyOnce reads, writes and commits offsets in transactions, with restarts of the broker in between.
func TestCopyExactlyOnce(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "in", Partitions: 2}, edge.TopicSpec{Name: "out", Partitions: 2})
	values := numbered("v", 300)
	produceAll(t, b.client(), "in", values...)
	copier := func() *kgo.GroupTransactSession {
		s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(b.addr), kgo.TransactionalID("copier"), kgo.TransactionTimeout(20*time.Second),
			kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond), kgo.SessionTimeout(2*time.Second),
			kgo.HeartbeatInterval(100*time.Millisecond), kgo.FetchMaxPartitionBytes(200))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := copier()
	defer func() { s.Close() }()
	ctx := withTimeout(t)
	copied := 0
	for round := 0; copied < len(values); round++ {
		if ctx.Err() != nil {
			t.Fatalf("copied %d of %d", copied, len(values))
		}
		fs := s.PollRecords(ctx, 40)
		if fs.Empty() {
			continue
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		n := 0
		fs.EachRecord(func(r *kgo.Record) {
			s.Produce(ctx, &kgo.Record{Topic: "out", Partition: r.Partition, Value: r.Value}, nil)
			n++
		})
		if round == 2 {
			b.restart() // in mid-transaction
		}
		committed, err := s.End(ctx, kgo.TransactionEndTry(round%3 != 1))
		if err != nil {
			t.Logf("round %d: %v", round, err)
			s.Close()
			s = copier()
			continue
		}
		if committed {
			copied += n
		}
	}
	got := valuesOf(consume(t, committedReader(b, "out"), len(values)))
	slices.Sort(got)
	if !slices.Equal(got, values) {
		t.Errorf("the copy has %d values; the first are %v", len(got), got[:min(10, len(got))])
	}
}

func TestTransactionTimesOut(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 1})
	cl := txnClient(b, "slow", kgo.TransactionTimeout(300*time.Millisecond))
	beginTxn(t, cl)
	produceAll(t, cl, "tx", "late")
	produceAll(t, b.client(), "tx", "plain")
	// The reader is held up until the transaction timed out.
	if got := valuesOf(consume(t, committedReader(b, "tx"), 1)); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("read_committed reads %v", got)
	}
	if err := cl.EndTransaction(withTimeout(t), kgo.TryCommit); err == nil {
		t.Error("a transaction that timed out could be committed")
	}
}
