package mirror

import (
	"context"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// describe learns the limits of the centre. They save a refusal; without the right to see them the uplink learns by being refused.
func (s *session) describe(ctx context.Context, targets []*target) {
	u := s.u
	byName := make(map[string]*target)
	req := kmsg.NewPtrDescribeConfigsRequest()
	ask := func(kind kmsg.ConfigResourceType, name string, keys ...string) {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, keys
		req.Resources = append(req.Resources, r)
	}
	for _, t := range targets {
		switch {
		case t.problem != "" || t.described:
		case t == u.progressTarget:
			if len(t.leaders) > 0 && t.leaders[0] >= 0 {
				t.described = true
				ask(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(t.leaders[0])), "offsets.retention.minutes")
			}
		default:
			byName[t.name] = t
			ask(kmsg.ConfigResourceTypeTopic, t.name, "max.message.bytes", "compression.type")
		}
	}
	if len(req.Resources) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, u.o.txnTimeout/4)
	defer cancel()
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		u.o.Log.Debug("centre does not tell its configuration", "err", err)
		return
	}
	for _, r := range resp.Resources {
		t := byName[r.ResourceName]
		if r.ErrorCode != 0 {
			continue
		}
		if t != nil {
			t.described = true
		}
		for _, c := range r.Configs {
			if c.Value != nil {
				u.learn(t, c.Name, *c.Value)
			}
		}
	}
}

// maxRetention, in minutes, is for ever: Kafka allows more minutes than a Duration can hold.
const maxRetention = 10 * 366 * 24 * 60

// learn takes in one configuration value of the centre, of topic t or of a broker.
func (u *Uplink) learn(t *target, key, value string) {
	switch key {
	case "max.message.bytes":
		if n, err := strconv.Atoi(value); err == nil && n > 0 && t != nil {
			t.maxBytes = n
		}
	case "compression.type":
		if value != "producer" && value != "lz4" && t != nil {
			u.o.Log.Warn("the centre compresses anew what it gets; compression.type=producer would save its CPU", "topic", t.name, "compression_type", value)
		}
	case "offsets.retention.minutes":
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return
		}
		keeps := time.Duration(min(n, maxRetention)) * time.Minute
		u.renew = max(min(refreshOffsets, keeps/4), time.Second)
		if keeps < 2*refreshOffsets {
			u.o.Log.Warn("the centre forgets the positions of an edge that was away for so long; this store's own note of them takes over then", "offsets_retention", keeps)
		}
	}
}
