package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// Metadata: 0 to 12
//
//   - One node, which leads every partition with epoch 0, at the advertised address.
//   - A topic that is asked for by name is made with the defaults, if the client lets it (before version 4 it always
//     does), may create topics, and Options.NoAutoCreate is not set.
//   - Topics by id from version 10. One that is named twice is told once.
func metadataAPI() api {
	return api{key: kmsg.Metadata, min: 0, max: 12, handle: serve((*conn).metadata), refuse: refuseMetadata}
}

func (c *conn) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	resp := respond[*kmsg.MetadataResponse](req)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID = nodeID
	b.Host, b.Port = c.address()
	resp.Brokers = append(resp.Brokers, b)
	id := c.clusterID()
	resp.ClusterID, resp.ControllerID = &id, nodeID
	if req.IncludeClusterAuthorizedOperations && req.Version >= 8 && req.Version <= 10 {
		resp.AuthorizedOperations = c.clusterOps()
	}
	store := c.s.broker.Store()
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range store.Topics() {
			if c.allow(edge.OpDescribe, t.Name) {
				resp.Topics = append(resp.Topics, c.metadataTopic(t, req))
			}
		}
		return resp
	}
	told := make(map[any]bool, len(req.Topics)) // a topic's name, or its id
	for _, rt := range req.Topics {
		key := any(rt.TopicID)
		if rt.Topic != nil {
			key = *rt.Topic
		}
		if told[key] {
			continue
		}
		told[key] = true
		if rt.Topic == nil {
			mt := kmsg.NewMetadataResponseTopic()
			mt.TopicID, mt.ErrorCode = rt.TopicID, kerr.UnknownTopicID.Code
			if t, ok := store.TopicByID(rt.TopicID); ok {
				if c.allow(edge.OpDescribe, t.Name) {
					resp.Topics = append(resp.Topics, c.metadataTopic(t, req))
					continue
				}
				mt.ErrorCode = kerr.TopicAuthorizationFailed.Code // an id tells nothing: whoever has it knows that there is one
			}
			resp.Topics = append(resp.Topics, mt)
			continue
		}
		t, code := c.metadataByName(*rt.Topic, req)
		if code == 0 {
			resp.Topics = append(resp.Topics, c.metadataTopic(t, req))
			continue
		}
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic, mt.ErrorCode = rt.Topic, code
		resp.Topics = append(resp.Topics, mt)
	}
	return resp
}

// metadataByName finds a topic, or makes it where that is allowed.
func (c *conn) metadataByName(name string, req *kmsg.MetadataRequest) (*edge.Topic, int16) {
	if !c.allow(edge.OpDescribe, name) {
		return nil, kerr.TopicAuthorizationFailed.Code
	}
	if t, ok := c.s.broker.Store().Topic(name); ok {
		return t, 0
	}
	if err := edge.CheckTopicName(name); err != nil {
		return nil, c.code(err)
	}
	create := req.AllowAutoTopicCreation || req.Version < 4
	switch {
	case !create || c.s.o.NoAutoCreate || edge.Internal(name):
		return nil, kerr.UnknownTopicOrPartition.Code
	case !c.allow(edge.OpCreate, name):
		return nil, kerr.TopicAuthorizationFailed.Code
	}
	t, err := c.s.broker.EnsureTopic(c.ctx(), name)
	if err != nil {
		c.log.Warn("cannot make topic on first use", "topic", name, "err", err)
		return nil, c.code(err)
	}
	c.log.Info("topic made on first use", "topic", name, "partitions", len(t.Partitions), "client", c.who.Client)
	return t, 0
}

func (c *conn) metadataTopic(t *edge.Topic, req *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	mt := kmsg.NewMetadataResponseTopic()
	name := t.Name
	mt.Topic, mt.TopicID, mt.IsInternal = &name, t.ID, edge.Internal(t.Name)
	if req.IncludeTopicAuthorizedOperations {
		mt.AuthorizedOperations = c.topicOps(t.Name)
	}
	mt.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	nodes := []int32{nodeID}
	for i := range mt.Partitions {
		p := &mt.Partitions[i]
		p.Default()
		p.Partition, p.Leader, p.LeaderEpoch = int32(i), nodeID, 0
		p.Replicas, p.ISR = nodes, nodes
	}
	return mt
}

func refuseMetadata(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.MetadataRequest)
	resp := respond[*kmsg.MetadataResponse](req)
	resp.ErrorCode = code
	for _, t := range req.Topics {
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic, mt.TopicID, mt.ErrorCode = t.Topic, t.TopicID, code
		if mt.Topic == nil {
			name := ""
			mt.Topic = &name
		}
		resp.Topics = append(resp.Topics, mt)
	}
	return resp
}
