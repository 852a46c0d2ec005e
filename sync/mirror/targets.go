package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ensureTargets looks at the centre's topics, and makes or grows what is missing. A topic that cannot be used holds up its own
// lanes; only the progress topic is needed by all.
func (s *session) ensureTargets(ctx context.Context) error {
	u := s.u
	targets := slices.Collect(maps.Values(u.targets))
	u.progressTarget.want = progressPartitions
	if s.progress != nil {
		u.progressTarget.want = max(progressPartitions, int32(s.progress.shards))
	}
	targets = append(targets, u.progressTarget)
	for _, t := range targets {
		t.refused = ""
	}

	deadline := time.Now().Add(u.o.txnTimeout)
	for try := 0; ; try++ {
		topics, err := s.metadata(ctx, targets)
		if err != nil {
			return err
		}
		again := false
		var missing, short []*target
		lacks := make(map[*target]bool)
		for _, t := range targets {
			m, ok := topics[t.name]
			err := kerr.ErrorForCode(m.ErrorCode)
			switch {
			case !ok || errors.Is(err, kerr.UnknownTopicOrPartition):
				t.leaders, t.problem = nil, cmp.Or(t.refused, "the centre has no topic "+t.name)
				missing = append(missing, t)
				lacks[t] = t.refused == "" // once made, it may not be known everywhere yet
			case errors.Is(err, kerr.LeaderNotAvailable):
				t.leaders, t.problem = nil, fmt.Sprintf("topic %s at the centre: %v", t.name, err)
				lacks[t] = true
			case err != nil:
				t.leaders, t.problem = nil, fmt.Sprintf("topic %s at the centre: %v", t.name, err)
			default:
				t.problem = ""
				t.leaders = make([]int32, len(m.Partitions))
				for _, p := range m.Partitions {
					if int(p.Partition) < len(t.leaders) {
						t.leaders[p.Partition] = p.Leader
						lacks[t] = lacks[t] || p.Leader < 0
					}
				}
				if int32(len(t.leaders)) < t.want {
					short = append(short, t)
					lacks[t] = lacks[t] || t.refused == ""
				}
			}
		}
		if try == 0 && len(missing)+len(short) > 0 {
			if err := s.makeTopics(ctx, missing, short); err != nil {
				return err
			}
			continue
		}
		for _, t := range targets {
			again = again || lacks[t] && !t.awaited
		}
		if !again || time.Now().After(deadline) {
			for _, t := range targets {
				t.awaited = lacks[t]
			}
			break
		}
		if err := sleep(ctx, u.jitter(100*time.Millisecond)); err != nil {
			return err
		}
	}
	if p := u.progressTarget; len(p.leaders) == 0 {
		return fmt.Errorf("topic %s is needed at the centre for the positions of uplinks (%s): create it with %d partitions, or allow this edge to",
			progressTopic, p.problem, progressPartitions)
	}
	s.describe(ctx, targets)
	for _, l := range *u.lanes.Load() {
		u.unblock(l)
	}
	u.targetsAt = u.o.Now()
	return nil
}

// unblock lets a lane go on unless its target cannot take it.
func (u *Uplink) unblock(l *lane) {
	t := l.target
	switch {
	case t.problem != "":
		l.block(t.problem)
	case int(l.index) >= len(t.leaders):
		l.block(fmt.Sprintf("topic %s at the centre has only %d partitions", t.name, len(t.leaders)))
	case t.leaders[l.index] < 0:
		l.block(fmt.Sprintf("partition %d of topic %s at the centre has no leader", l.index, t.name))
	case l.barred != "" && u.o.Now().Sub(l.barredAt).Abs() < refreshTargets:
		l.block(l.barred)
	default:
		l.barred = ""
		l.block("")
	}
}

func (s *session) metadata(ctx context.Context, targets []*target) (map[string]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range targets {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &t.name
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return nil, fmt.Errorf("ask centre for its topics: %w", err)
	}
	cluster := ""
	if resp.ClusterID != nil {
		cluster = *resp.ClusterID
	}
	s.u.mu.Lock()
	s.u.cluster = cluster
	s.u.mu.Unlock()
	topics := make(map[string]kmsg.MetadataResponseTopic, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic != nil {
			topics[*t.Topic] = t
		}
	}
	return topics, nil
}

// makeTopics makes missing topics and grows short ones. What the centre refuses becomes the target's problem.
func (s *session) makeTopics(ctx context.Context, missing, short []*target) error {
	byName := make(map[string]*target)
	if len(missing) > 0 {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = int32(s.u.o.txnTimeout.Milliseconds())
		for _, t := range missing {
			byName[t.name] = t
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.name, t.want, -1
			if t.compact {
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = "cleanup.policy", new("compact")
				rt.Configs = append(rt.Configs, c)
			}
			req.Topics = append(req.Topics, rt)
		}
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return fmt.Errorf("create topics at the centre: %w", err)
		}
		for _, t := range resp.Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
				s.u.o.Log.Info("made topic at the centre", "topic", t.Topic)
			} else if tg := byName[t.Topic]; tg != nil {
				tg.refused = fmt.Sprintf("the centre has no topic %s and does not let this edge make it: %v", t.Topic, err)
			}
		}
	}
	if len(short) > 0 {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = int32(s.u.o.txnTimeout.Milliseconds())
		for _, t := range short {
			byName[t.name] = t
			rt := kmsg.NewCreatePartitionsRequestTopic()
			rt.Topic, rt.Count = t.name, t.want
			req.Topics = append(req.Topics, rt)
		}
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return fmt.Errorf("grow topics at the centre: %w", err)
		}
		for _, t := range resp.Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil && byName[t.Topic] != nil {
				byName[t.Topic].refused = err.Error()
				s.u.alarm("topic %s at the centre has fewer partitions than here and cannot be grown: %v", t.Topic, err)
			}
		}
	}
	return nil
}
