package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// OffsetFetch: 1 to 9
//
//   - No offset: -1, without an error. Metadata comes back as it was committed.
//   - Null topics (from version 2): all offsets of the group. Many groups from version 8, each told once.
//   - RequireStable (from version 7): a partition whose offset a transaction may change gets UNSTABLE_OFFSET_COMMIT.
func offsetFetchAPI() api {
	return api{key: kmsg.OffsetFetch, min: 1, max: 9, handle: serve((*conn).offsetFetch)}
}

func (c *conn) offsetFetch(req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := respond[*kmsg.OffsetFetchResponse](req)
	groups := req.Groups
	if req.Version < 8 {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = req.Group
		for _, t := range req.Topics {
			gt := kmsg.NewOffsetFetchRequestGroupTopic()
			gt.Topic, gt.Partitions = t.Topic, t.Partitions
			g.Topics = append(g.Topics, gt)
		}
		if req.Topics != nil && g.Topics == nil {
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
		}
		groups = []kmsg.OffsetFetchRequestGroup{g}
	}
	told := make(map[string]bool, len(groups))
	for i := range groups {
		if told[groups[i].Group] {
			continue
		}
		told[groups[i].Group] = true
		resp.Groups = append(resp.Groups, c.offsetFetchGroup(&groups[i], req.RequireStable))
	}
	if req.Version < 8 {
		oldOffsetFetch(resp, req.Version)
	}
	return resp
}

// oldOffsetFetch moves the one group to where versions below 8 have it.
func oldOffsetFetch(resp *kmsg.OffsetFetchResponse, version int16) {
	g := resp.Groups[0]
	resp.Groups = nil
	resp.ErrorCode = g.ErrorCode
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			if version < 2 && g.ErrorCode != 0 {
				rp.ErrorCode = g.ErrorCode
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

func (c *conn) offsetFetchGroup(g *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group = g.Group
	if !c.allow(edge.OpGroupDescribe, g.Group) {
		rg.ErrorCode = kerr.GroupAuthorizationFailed.Code
		for _, t := range g.Topics {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, noOffset(p, 0))
			}
			rg.Topics = append(rg.Topics, rt)
		}
		return rg
	}
	if g.Topics == nil {
		return c.offsetFetchAll(rg, stable)
	}
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		allowed := c.allow(edge.OpDescribe, t.Topic)
		for _, p := range t.Partitions {
			switch {
			case !allowed:
				rt.Partitions = append(rt.Partitions, noOffset(p, kerr.TopicAuthorizationFailed.Code))
			case stable && c.s.txns.PendingOffset(g.Group, t.Topic, p):
				rt.Partitions = append(rt.Partitions, noOffset(p, kerr.UnstableOffsetCommit.Code))
			default:
				o, ok, err := c.s.groups.Offset(g.Group, t.Topic, p)
				if ok && err == nil {
					rt.Partitions = append(rt.Partitions, someOffset(o))
				} else {
					rt.Partitions = append(rt.Partitions, noOffset(p, c.coordinatorCode(err, nil)))
				}
			}
		}
		rg.Topics = append(rg.Topics, rt)
	}
	return rg
}

func (c *conn) offsetFetchAll(rg kmsg.OffsetFetchResponseGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	rg.Topics = []kmsg.OffsetFetchResponseGroupTopic{}
	offsets, err := c.s.groups.Offsets(rg.Group)
	if err != nil {
		rg.ErrorCode = c.coordinatorCode(err, nil)
		return rg
	}
	for _, o := range offsets {
		if !c.allow(edge.OpDescribe, o.Topic) {
			continue
		}
		if n := len(rg.Topics); n == 0 || rg.Topics[n-1].Topic != o.Topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = o.Topic
			rg.Topics = append(rg.Topics, rt)
		}
		p := someOffset(o)
		if stable && c.s.txns.PendingOffset(rg.Group, o.Topic, o.Partition) {
			p = noOffset(o.Partition, kerr.UnstableOffsetCommit.Code)
		}
		rt := &rg.Topics[len(rg.Topics)-1]
		rt.Partitions = append(rt.Partitions, p)
	}
	return rg
}

func noOffset(partition int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	empty := ""
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = partition, -1, -1, &empty, code
	return p
}

func someOffset(o edge.GroupOffset) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.Partition, o.Offset, o.LeaderEpoch, &o.Metadata
	return p
}
