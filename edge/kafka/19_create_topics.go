package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// CreateTopics: 2 to 7
//
//   - Durable when it is answered. Partitions -1: the default. A topic that is named twice: INVALID_REQUEST.
//   - Replication factor -1 or 1; more is INVALID_REPLICATION_FACTOR, unless Options.ClampReplication is set. Replica
//     assignments may name the only node.
//   - From version 5 the whole configuration comes back, each key with a valid source.
//   - Kafka's keys that have no meaning here are kept and shown, and do nothing.
func createTopicsAPI() api {
	return api{key: kmsg.CreateTopics, min: 2, max: 7, handle: serve((*conn).createTopics), refuse: refuseCreateTopics}
}

func (c *conn) createTopics(req *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := respond[*kmsg.CreateTopicsResponse](req)
	named := make(map[string]int)
	for _, t := range req.Topics {
		named[t.Topic]++
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic = t.Topic
		code, err := int16(0), error(nil)
		if named[t.Topic] > 1 {
			code, err = kerr.InvalidRequest.Code, errors.New("topic is named twice")
		} else {
			code, err = c.createTopic(t, req.ValidateOnly, &rt)
		}
		rt.ErrorCode, rt.ErrorMessage = code, message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

var (
	errReplication = errors.New("there is one node: the replication factor is 1")
	errAssignment  = errors.New("there is one node: every partition is assigned to node 0 alone")
	errPartitions  = errors.New("a topic has at least one partition")
)

func (c *conn) createTopic(t *kmsg.CreateTopicsRequestTopic, validateOnly bool, rt *kmsg.CreateTopicsResponseTopic) (int16, error) {
	if !c.allow(edge.OpCreate, t.Topic) {
		return kerr.TopicAuthorizationFailed.Code, edge.ErrNotAuthorized
	}
	if t.ReplicationFactor != -1 && t.ReplicationFactor != 1 && !(t.ReplicationFactor > 1 && c.s.o.ClampReplication) {
		return kerr.InvalidReplicationFactor.Code, errReplication
	}
	spec := edge.TopicSpec{Name: t.Topic, Partitions: max(int(t.NumPartitions), 0), Config: map[string]string{}}
	switch {
	case len(t.ReplicaAssignment) > 0:
		for _, a := range t.ReplicaAssignment {
			if len(a.Replicas) != 1 || a.Replicas[0] != nodeID || int(a.Partition) >= len(t.ReplicaAssignment) || a.Partition < 0 {
				return kerr.InvalidReplicaAssignment.Code, errAssignment
			}
		}
		spec.Partitions = len(t.ReplicaAssignment)
	case t.NumPartitions != -1 && t.NumPartitions < 1:
		return kerr.InvalidPartitions.Code, errPartitions
	}
	for _, cfg := range t.Configs {
		if cfg.Value != nil {
			spec.Config[cfg.Name] = *cfg.Value
		}
	}
	if validateOnly {
		if err := c.validateTopic(spec); err != nil {
			return c.code(err), err
		}
		c.createdAs(rt, spec.Name, spec.Partitions, spec.Config)
		return 0, nil
	}
	topic, err := c.s.broker.CreateTopic(c.ctx(), spec)
	if err != nil {
		return c.code(err), err
	}
	c.log.Info("topic made", "topic", topic.Name, "partitions", len(topic.Partitions), "client", c.who.Client)
	rt.TopicID = topic.ID
	c.createdAs(rt, topic.Name, len(topic.Partitions), topic.Config)
	return 0, nil
}

// createdAs tells what a topic looks like now, if the client may know; to create it does not include that.
func (c *conn) createdAs(rt *kmsg.CreateTopicsResponseTopic, topic string, partitions int, set map[string]string) {
	if !c.allow(edge.OpDescribeConfigs, topic) {
		rt.NumPartitions, rt.ReplicationFactor, rt.Configs = -1, -1, []kmsg.CreateTopicsResponseTopicConfig{}
		rt.ConfigErrorCode = kerr.TopicAuthorizationFailed.Code
		return
	}
	rt.NumPartitions, rt.ReplicationFactor, rt.Configs = int32(partitions), 1, createdConfigs(set)
}

func (c *conn) validateTopic(spec edge.TopicSpec) error {
	if err := edge.CheckTopicName(spec.Name); err != nil {
		return err
	}
	if _, ok := c.s.broker.Store().Topic(spec.Name); ok {
		return edge.ErrTopicExists
	}
	return edge.CheckTopicConfig(spec.Config)
}

// createdConfigs is a topic's configuration as CreateTopics tells it.
func createdConfigs(set map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	list := []kmsg.CreateTopicsResponseTopicConfig{}
	for _, v := range topicConfigValues(set) {
		rc := kmsg.NewCreateTopicsResponseTopicConfig()
		rc.Name, rc.Value, rc.Source = v.name, &v.value, int8(v.source)
		list = append(list, rc)
	}
	return list
}

func refuseCreateTopics(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.CreateTopicsRequest)
	resp := respond[*kmsg.CreateTopicsResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.ErrorCode = t.Topic, code
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
