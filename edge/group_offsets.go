package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// spaceOffsets holds committed offsets: group NUL topic NUL partition → offsetVersion, offset, leader epoch, commit time
// in milliseconds, topic id, metadata. The topic's id tells an offset of a topic that was deleted and made again.
const (
	spaceOffsets  = "offsets"
	offsetVersion = 1
	offsetFixed   = 1 + 8 + 4 + 8 + 16
)

// GroupOffset is a committed offset: the next one to read.
type GroupOffset struct {
	Topic       string
	Partition   int32
	Offset      int64
	LeaderEpoch int32 // -1: unknown
	Metadata    string
	At          time.Time // of the commit
}

// OffsetCommit commits offsets for a member, or, with Generation < 0 and no MemberID, for a client that assigns its
// partitions itself. Err of an offset says what is wrong with it alone; the others are stored.
type OffsetCommit struct {
	Group, MemberID, InstanceID string
	Generation                  int32
	Offsets                     []GroupOffset
	Errs                        []error // result: one for each offset
}

// CommitOffsets is durable when it returns. Its error is about all of them.
func (g *Groups) CommitOffsets(ctx context.Context, c *OffsetCommit) error {
	stores := false
	done := make(chan struct{})
	commit := &Commit{Urgent: true, Done: func(*Commit) { close(done) }}
	taken, err := g.checked(c, false, func(puts []Put, record *Put) error {
		commit.Puts = puts
		if stores = record != nil; stores {
			commit.Puts = append(commit.Puts, *record)
		}
		return g.store.Submit(ctx, commit) // which takes an urgent commit without waiting
	})
	if err == nil && taken {
		<-done
		err = commit.Err
	}
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	if stores {
		g.markStored(c.Group)
	}
	return nil
}

// checked checks who commits and what, and hands over the changes that store it, if there are any: taken. A group's first commit also
// stores the group, by record. Nothing of the group changes between the check and the end of take, so that what take does, to hand
// a commit to the store or to note offsets as pending, comes before all that the group's next member does. take must not block.
func (g *Groups) checked(c *OffsetCommit, txn bool, take func(puts []Put, record *Put) error) (taken bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	record, err := g.checkCommit(c, txn)
	if err != nil {
		return false, err
	}
	var puts []Put
	if puts, c.Errs = g.offsetPuts(c.Group, c.Offsets); len(puts) == 0 {
		return false, nil
	}
	return true, take(puts, record)
}

// checkCommit checks who commits; g.mu is held. Transactions may come without a member, as their older protocol does not name it, and
// while the group waits for its assignment.
func (g *Groups) checkCommit(c *OffsetCommit, txn bool) (*Put, error) {
	if g.closed {
		return nil, ErrCoordinatorClosed
	}
	if err := checkGroupName(c.Group); err != nil {
		return nil, err
	}
	gr := g.groups[c.Group]
	switch {
	case c.Generation < 0 && c.MemberID == "" && c.InstanceID == "":
		if gr != nil && gr.state != GroupEmpty && !txn {
			return nil, ErrUnknownMember
		}
	case gr == nil:
		return nil, ErrGeneration
	default:
		_, m, err := g.lookup(c.Group, c.MemberID, c.InstanceID, c.Generation)
		if err != nil {
			return nil, err
		}
		if gr.state == GroupCompleting && !txn {
			return nil, ErrRebalance
		}
		m.deadline = g.opts.Now().Add(m.session)
	}
	var r groupRecord
	if gr != nil {
		if gr.stored {
			return nil, nil
		}
		r = groupRecord{Kind: gr.kind, Generation: gr.generation}
	}
	put, err := groupPut(c.Group, r)
	if err != nil {
		return nil, err
	}
	return &put, nil
}

func (g *Groups) markStored(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gr := g.groups[name]
	if gr == nil { // a client without members, or the last one left while the record was written
		gr = newGroup(name)
		g.groups[name] = gr
	}
	gr.stored = true
}

// offsetPuts are the changes that store offsets, and what is wrong with each of them.
func (g *Groups) offsetPuts(group string, offsets []GroupOffset) ([]Put, []error) {
	now := g.opts.Now()
	puts := make([]Put, 0, len(offsets)+1)
	errs := make([]error, len(offsets))
	for i, o := range offsets {
		topic, ok := g.store.Topic(o.Topic)
		switch {
		case !ok || o.Partition < 0 || int(o.Partition) >= len(topic.Partitions):
			errs[i] = ErrNoTopic
			continue
		case len(o.Metadata) > g.opts.MaxMetadata:
			errs[i] = ErrMetadataTooLarge
			continue
		}
		o.At = now
		puts = append(puts, Put{
			Space: spaceOffsets, Key: offsetKey(group, o.Topic, o.Partition), Value: encodeOffset(o, topic.ID),
		})
	}
	return puts, errs
}

func offsetKey(group, topic string, partition int32) string {
	b := make([]byte, 0, len(group)+len(topic)+8)
	b = append(append(b, group...), 0)
	b = append(append(b, topic...), 0)
	return string(strconv.AppendInt(b, int64(partition), 10))
}

func encodeOffset(o GroupOffset, topic [16]byte) []byte {
	b := make([]byte, 0, offsetFixed+len(o.Metadata))
	b = append(b, offsetVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Offset))
	b = binary.BigEndian.AppendUint32(b, uint32(o.LeaderEpoch))
	b = binary.BigEndian.AppendUint64(b, uint64(o.At.UnixMilli()))
	b = append(b, topic[:]...)
	return append(b, o.Metadata...)
}

func decodeOffset(b []byte) (o GroupOffset, topic [16]byte, err error) {
	if len(b) < offsetFixed || b[0] != offsetVersion {
		return o, topic, errors.New("offset record is damaged")
	}
	o.Offset = int64(binary.BigEndian.Uint64(b[1:]))
	o.LeaderEpoch = int32(binary.BigEndian.Uint32(b[9:]))
	o.At = time.UnixMilli(int64(binary.BigEndian.Uint64(b[13:])))
	copy(topic[:], b[21:])
	o.Metadata = string(b[offsetFixed:])
	return o, topic, nil
}

// Offset returns one committed offset; ok is false when there is none.
func (g *Groups) Offset(group, topic string, partition int32) (o GroupOffset, ok bool, err error) {
	t, ok := g.store.Topic(topic)
	if !ok {
		return o, false, nil
	}
	b, err := g.store.Get(spaceOffsets, offsetKey(group, topic, partition))
	if err != nil || b == nil {
		return o, false, err
	}
	o, id, err := decodeOffset(b)
	if err != nil || id != t.ID {
		return o, false, err
	}
	o.Topic, o.Partition = topic, partition
	return o, true, nil
}

// Offsets returns all committed offsets of a group, by topic and partition key.
func (g *Groups) Offsets(group string) ([]GroupOffset, error) {
	var list []GroupOffset
	var bad error
	err := g.store.Scan(spaceOffsets, group+"\x00", func(key string, value []byte) bool {
		topic, partition, err := splitOffsetKey(key, group)
		if err != nil {
			bad = err
			return false
		}
		o, id, err := decodeOffset(value)
		if err != nil {
			bad = err
			return false
		}
		if t, ok := g.store.Topic(topic); ok && t.ID == id {
			o.Topic, o.Partition = topic, partition
			list = append(list, o)
		}
		return true
	})
	return list, errors.Join(err, bad)
}

func splitOffsetKey(key, group string) (topic string, partition int32, err error) {
	topic, n, ok := strings.Cut(strings.TrimPrefix(key, group+"\x00"), "\x00")
	if !ok {
		return "", 0, fmt.Errorf("offset key %q is damaged", key)
	}
	p, err := strconv.ParseInt(n, 10, 32)
	if err != nil {
		return "", 0, fmt.Errorf("offset key %q is damaged: %w", key, err)
	}
	return topic, int32(p), nil
}

// DeleteOffsets forgets the committed offsets of some partitions. That a member still reads their topic is for the
// caller to check, who knows what a subscription says. Errors: ErrGroupNotFound.
func (g *Groups) DeleteOffsets(ctx context.Context, group, topic string, partitions []int32) error {
	g.mu.Lock()
	_, ok := g.groups[group]
	g.mu.Unlock()
	if !ok {
		return ErrGroupNotFound
	}
	puts := make([]Put, len(partitions))
	for i, p := range partitions {
		puts[i] = Put{Space: spaceOffsets, Key: offsetKey(group, topic, p)}
	}
	if err := g.store.Do(ctx, &Commit{Puts: puts, Urgent: true}); err != nil {
		return fmt.Errorf("delete offsets: %w", err)
	}
	return nil
}

// ResetTo says where a reset group goes on.
type ResetTo struct {
	Latest bool      // the end
	Offset int64     // that offset, when > 0, within what is there
	Time   time.Time // the first record at or after it, when not zero
	// None of them: the first offset that is there.
}

// Reset sets a group's offsets in all partitions of a topic. Errors: ErrGroupNotEmpty, ErrNoTopic.
func (g *Groups) Reset(ctx context.Context, group, topic string, to ResetTo) ([]GroupOffset, error) {
	t, ok := g.store.Topic(topic)
	if !ok {
		return nil, ErrNoTopic
	}
	c := OffsetCommit{Group: group, Generation: -1}
	for _, p := range t.Partitions {
		offset, err := to.in(p)
		if err != nil {
			return nil, fmt.Errorf("reset group: %w", err)
		}
		c.Offsets = append(c.Offsets, GroupOffset{Topic: topic, Partition: p.Index, Offset: offset, LeaderEpoch: -1})
	}
	err := g.CommitOffsets(ctx, &c)
	if errors.Is(err, ErrUnknownMember) {
		err = ErrGroupNotEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("reset group: %w", err)
	}
	return c.Offsets, errors.Join(c.Errs...)
}

func (to ResetTo) in(p *Partition) (int64, error) {
	start, _, high := p.Offsets()
	switch {
	case to.Latest:
		return high, nil
	case !to.Time.IsZero():
		offset, _, ok, err := p.OffsetForTime(to.Time.UnixMilli())
		if err != nil {
			return 0, err
		}
		if !ok {
			return high, nil
		}
		return offset, nil
	case to.Offset > 0:
		return min(max(to.Offset, start), high), nil
	}
	return start, nil
}
