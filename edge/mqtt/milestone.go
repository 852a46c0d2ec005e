package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// A session is one sequence, so it does not know how many records lie behind it in which partition. When retention has overtaken it,
// what it missed is counted with the help of milestones: the ends of all partitions at some sequence, kept when a session is put
// away, at most one in milestonePeriod. The figure counts records of all topics, and is off by what was written in one period at most.

// milestoneSpace holds milestones: sequence, eight bytes, big endian; then version, and for each partition its id and end.
const milestoneSpace = "mqtt.milestone"

const (
	milestoneVersion = 1
	milestonePeriod  = time.Minute
	maxMilestones    = 2048 // beyond, every second one goes
)

// missedProperty is the user property by which CONNACK says about how many records the log dropped before the client came back for
// them.
const missedProperty = "rivulet-missed"

func milestoneKey(seq uint64) string { return string(binary.BigEndian.AppendUint64(nil, seq)) }

// milestone returns the change that keeps where the log's ends are while a session is put away at seq; none when there is a recent
// one.
func (srv *Server) milestone(seq uint64) []edge.Put {
	now := srv.o.Now()
	srv.mu.Lock()
	due := srv.milestoned.IsZero() || now.Sub(srv.milestoned) >= milestonePeriod || now.Before(srv.milestoned)
	if due {
		srv.milestoned = now
	}
	srv.mu.Unlock()
	if !due {
		return nil
	}
	b := []byte{milestoneVersion}
	for _, t := range srv.broker.Store().Topics() {
		if edge.Internal(t.Name) {
			continue
		}
		for _, p := range t.Partitions {
			_, _, high := p.Offsets()
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.ID)), uint64(high))
		}
	}
	return []edge.Put{{Space: milestoneSpace, Key: milestoneKey(seq), Value: b}}
}

func decodeMilestone(b []byte) (ends map[uint32]int64, err error) {
	if len(b) == 0 || b[0] != milestoneVersion {
		return nil, errPosition
	}
	ends = map[uint32]int64{}
	for r := (uvarints{b: b[1:]}); len(r.b) > 0; {
		id := uint32(r.next())
		if ends[id] = int64(r.next()); r.bad {
			return nil, errPosition
		}
	}
	return ends, nil
}

// missed counts about how many records behind seq the log does not hold any more.
func (srv *Server) missed(seq uint64) (n int64, err error) {
	store := srv.broker.Store()
	var value []byte
	err = store.Scan(milestoneSpace, "", func(key string, v []byte) bool {
		if key > milestoneKey(seq) {
			return false
		}
		value = append(value[:0], v...)
		return true
	})
	if err != nil || value == nil {
		return 0, err
	}
	ends, err := decodeMilestone(value)
	if err != nil {
		return 0, err
	}
	for _, t := range store.Topics() {
		if edge.Internal(t.Name) {
			continue
		}
		for _, p := range t.Partitions {
			start, _, _ := p.Offsets()
			n += max(0, start-ends[p.ID]) // a partition that is younger than the milestone was empty then
		}
	}
	return n, nil
}

// tellMissed says in CONNACK, the log and the metrics what a session missed that retention has overtaken.
func (s *session) tellMissed(ack *packet.Connack) {
	n, err := s.srv.missed(s.cursor.seq)
	if err != nil {
		s.srv.log.Error("cannot tell what an MQTT session missed", "client", s.id, "err", err)
	}
	if n == 0 || !slices.ContainsFunc(s.list(), func(sub *subscription) bool { return sub.qos > 0 }) {
		return
	}
	s.srv.stats.overtaken.Add(1)
	s.srv.stats.missed.Add(uint64(n))
	s.srv.log.Warn("retention has overtaken an MQTT session", "client", s.id, "records", n)
	ack.Properties.UserRaw = packet.AppendUser(ack.Properties.UserRaw, missedProperty, strconv.FormatInt(n, 10))
	ack.Properties.Mark(packet.PropUser)
}

func (s *session) list() (subs []*subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		subs = append(subs, sub)
	}
	return subs
}

// sweepMilestones forgets those that no session needs, and some when there are too many.
func (srv *Server) sweepMilestones() error {
	store := srv.broker.Store()
	oldest := store.LastSeq()
	err := store.Scan(positionSpace, "", func(_ string, value []byte) bool {
		if len(value) > 1 && value[0] == positionVersion {
			r := uvarints{b: value[1:]}
			oldest = min(oldest, r.next())
		}
		return true
	})
	var keys []string
	err = errors.Join(err, store.Scan(milestoneSpace, "", func(key string, _ []byte) bool {
		keys = append(keys, key)
		return true
	}))
	var puts []edge.Put
	for i, key := range keys {
		needless := i+1 < len(keys) && keys[i+1] <= milestoneKey(oldest)
		if needless || len(keys) > maxMilestones && i%2 == 1 {
			puts = append(puts, edge.Put{Space: milestoneSpace, Key: key})
		}
	}
	srv.commitNotes(puts)
	return err
}
