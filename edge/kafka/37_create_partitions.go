package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// CreatePartitions: 0 to 3
//
// A topic only grows: to as many partitions as it has, or fewer, is INVALID_PARTITIONS. Durable when it is answered.
func createPartitionsAPI() api {
	return api{key: kmsg.CreatePartitions, min: 0, max: 3, handle: serve((*conn).createPartitions)}
}

func (c *conn) createPartitions(req *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := respond[*kmsg.CreatePartitionsResponse](req)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		code, err := c.growTopic(t, req.ValidateOnly)
		rt.ErrorCode, rt.ErrorMessage = code, message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

var errMaxPartitions = errors.New("too many partitions")

func (c *conn) growTopic(t *kmsg.CreatePartitionsRequestTopic, validateOnly bool) (int16, error) {
	switch {
	case !c.allow(edge.OpAlter, t.Topic):
		return kerr.TopicAuthorizationFailed.Code, edge.ErrNotAuthorized
	case edge.Internal(t.Topic):
		return kerr.TopicAuthorizationFailed.Code, edge.ErrInternal
	}
	topic, ok := c.s.broker.Store().Topic(t.Topic)
	switch {
	case !ok:
		return kerr.UnknownTopicOrPartition.Code, edge.ErrNoTopic
	case int(t.Count) <= len(topic.Partitions):
		return kerr.InvalidPartitions.Code, fmt.Errorf("topic has %d partitions, and only grows", len(topic.Partitions))
	case t.Count > edge.MaxPartitions:
		return kerr.InvalidPartitions.Code, fmt.Errorf("%w: at most %d", errMaxPartitions, edge.MaxPartitions)
	}
	if t.Assignment != nil && len(t.Assignment) != int(t.Count)-len(topic.Partitions) {
		return kerr.InvalidReplicaAssignment.Code, errAssignment
	}
	for _, a := range t.Assignment {
		if len(a.Replicas) != 1 || a.Replicas[0] != nodeID {
			return kerr.InvalidReplicaAssignment.Code, errAssignment
		}
	}
	if validateOnly {
		return 0, nil
	}
	if _, err := c.s.broker.Store().AddPartitions(c.ctx(), t.Topic, int(t.Count)); err != nil {
		return c.code(err), err
	}
	return 0, nil
}
