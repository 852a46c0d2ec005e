package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// session is one client of the centre and, after open, one producer epoch.
type session struct {
	u      *Uplink
	cl     *kgo.Client
	end    func() // with cl
	writes *writeHook
	tv2    bool // KIP-890 part 2: implicit partitions, a new epoch with every transaction

	pid   int64
	epoch int16
	seqs  map[destination]int32 // next sequence

	progress *progress // shards at the centre
}

// destination is one partition at the centre.
type destination struct {
	topic     string
	partition int32
}

// versions are the request versions that this package is written for. Later ones name topics by id or are for brokers alone.
func versions(tv2 bool) *kversion.Versions {
	v := kversion.Stable()
	for key, highest := range map[int16]int16{
		0:  12, // Produce: 13 sends only topic ids
		9:  9,  // OffsetFetch: 10 likewise
		24: 3,  // AddPartitionsToTxn: 4 is for brokers
		26: 5,  // EndTxn: 5 answers with the next epoch
		28: 5,  // TxnOffsetCommit: 6 sends only topic ids
	} {
		v.SetMaxKeyVersion(key, highest)
	}
	if !tv2 {
		v.SetMaxKeyVersion(0, 11)
		v.SetMaxKeyVersion(26, 4)
		v.SetMaxKeyVersion(28, 4)
	}
	return v
}

// dial makes a client for the transaction protocol that the centre has settled on.
func (u *Uplink) dial(ctx context.Context) (*session, error) {
	s := &session{u: u, seqs: make(map[destination]int32)}
	if err := s.client(ctx, true); err != nil {
		return nil, err
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, s.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("ask centre for its versions: %w", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
			s.tv2 = true
		}
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == 0 && k.MaxVersion < 12 || k.ApiKey == 26 && k.MaxVersion < 5 || k.ApiKey == 28 && k.MaxVersion < 5 {
			s.tv2 = false
		}
	}
	if !s.tv2 {
		s.close()
		if err := s.client(ctx, false); err != nil {
			return nil, err
		}
	}
	mode := "TV1"
	if s.tv2 {
		mode = "TV2"
	}
	u.mu.Lock()
	u.txnMode = mode
	u.mu.Unlock()
	return s, nil
}

// client makes a client that lives a little longer than ctx, to abort what is under way. What a new connection begins with (versions, TLS,
// SASL) does not look at a request's context: a centre that is silent then would be waited for until the timeout.
func (s *session) client(ctx context.Context, tv2 bool) error {
	u := s.u
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })
	s.end = func() { stop(); cancel() }
	s.writes = newWriteHook()
	opts := []kgo.Opt{
		kgo.SeedBrokers(u.o.Brokers...),
		kgo.ClientID("rivulet/" + u.o.Edge + "/" + u.o.Name),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RetryTimeout(u.txnTimeout),
		kgo.RequestTimeoutOverhead(u.txnTimeout),
		kgo.WithHooks(s.writes),
		kgo.WithContext(life),
	}
	opts = append(opts, u.o.KgoOpts...)
	opts = append(opts, kgo.MaxVersions(versions(tv2)))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		s.end()
		return fmt.Errorf("make client for %v: %w", u.o.Brokers, err)
	}
	s.cl = cl
	return nil
}

func (s *session) close() {
	s.cl.Close()
	s.end()
}

// open begins a producer epoch, which ends what an earlier one left open, and settles every lane's position with the centre.
func (s *session) open(ctx context.Context) error {
	if err := s.ensureTargets(ctx); err != nil {
		return err
	}
	if err := s.initProducer(ctx); err != nil {
		return err
	}
	p, err := s.stableProgress(ctx)
	if err != nil {
		return err
	}
	s.progress = p
	for _, l := range *s.u.lanes.Load() {
		l.known = false
	}
	return s.settle(ctx)
}

// stableProgress fetches the positions when no transaction is left that may change them. After kill -9 Kafka 4.3 was seen to
// hold positions of a dead transaction as pending for ever (UNSTABLE_OFFSET_COMMIT; why is not known). Another
// marker of the same producer frees them: that of an empty transaction over the same positions, which is aborted and so changes nothing.
func (s *session) stableProgress(ctx context.Context) (*progress, error) {
	patient, cancel := context.WithTimeout(ctx, s.u.o.txnTimeout)
	p, err := s.fetchProgress(patient, true)
	cancel()
	if !errors.Is(err, kerr.UnstableOffsetCommit) || ctx.Err() != nil {
		return p, err
	}
	s.u.o.Log.Warn("the centre holds positions of a transaction that has ended; ending it again")
	s.progress = newProgress()
	positions := make(map[int]string)
	for shard := range s.u.progressTarget.leaders {
		positions[shard] = ""
	}
	again, cancel := context.WithTimeout(ctx, s.u.o.txnTimeout)
	defer cancel()
	err = s.commitOffsets(again, positions)
	if err == nil {
		err = s.endTxn(again, false)
	}
	if err != nil {
		return nil, fmt.Errorf("free positions: %w", err)
	}
	return s.fetchProgress(again, true)
}

// initProducer is what fences an older instance.
func (s *session) initProducer(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = &s.u.txid
	req.TransactionTimeoutMillis = int32(s.u.txnTimeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	ctx, cancel := context.WithTimeout(ctx, 2*s.u.o.txnTimeout) // then the status says what it waits for
	defer cancel()
	err := s.u.retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		s.pid, s.epoch = resp.ProducerID, resp.ProducerEpoch
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return fmt.Errorf("initialise producer %s: %w", s.u.txid, err)
	}
	clear(s.seqs)
	return nil
}

// retry calls fn again for as long as the centre says that it is still ending an earlier transaction.
func (u *Uplink) retry(ctx context.Context, fn func() error) error {
	const pause, most = 10 * time.Millisecond, 500 * time.Millisecond
	for p := pause; ; p = min(p*2, most) {
		err := fn()
		if !errors.Is(err, kerr.ConcurrentTransactions) && !errors.Is(err, kerr.UnstableOffsetCommit) {
			return err
		}
		if sleep(ctx, u.jitter(p)) != nil {
			return err
		}
	}
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter returns a duration between a half of d and d.
func (u *Uplink) jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + time.Duration(u.o.Rand()%uint64(d/2+1))
}
