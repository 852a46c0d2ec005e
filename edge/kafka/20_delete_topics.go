package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DeleteTopics: 1 to 6
//
// Durable when it is answered; by id from version 6. Committed offsets of the topic count no longer, even if a topic of
// that name is made again.
func deleteTopicsAPI() api {
	return api{key: kmsg.DeleteTopics, min: 1, max: 6, handle: serve((*conn).deleteTopics)}
}

func (c *conn) deleteTopics(req *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := respond[*kmsg.DeleteTopicsResponse](req)
	for _, name := range req.TopicNames {
		resp.Topics = append(resp.Topics, c.deleteTopic(&name, [16]byte{}))
	}
	for _, t := range req.Topics {
		resp.Topics = append(resp.Topics, c.deleteTopic(t.Topic, t.TopicID))
	}
	return resp
}

func (c *conn) deleteTopic(name *string, id [16]byte) kmsg.DeleteTopicsResponseTopic {
	rt := kmsg.NewDeleteTopicsResponseTopic()
	rt.Topic, rt.TopicID = name, id
	store := c.s.broker.Store()
	if name == nil {
		t, ok := store.TopicByID(id)
		if !ok {
			rt.ErrorCode = kerr.UnknownTopicID.Code
			return rt
		}
		if !c.allow(edge.OpDescribe, t.Name) { // its name is not told
			rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
			return rt
		}
		rt.Topic, name = &t.Name, &t.Name
	} else if t, ok := store.Topic(*name); ok && c.allow(edge.OpDescribe, *name) {
		rt.TopicID = t.ID
	}
	err := edge.ErrNotAuthorized
	switch {
	case !c.allow(edge.OpDescribe, *name) || !c.allow(edge.OpDelete, *name):
	case edge.Internal(*name):
		err = edge.ErrInternal
	default:
		err = store.DeleteTopic(c.ctx(), *name)
	}
	rt.ErrorCode, rt.ErrorMessage = c.code(err), message(err)
	if err == nil {
		c.log.Info("topic deleted", "topic", *name, "client", c.who.Client)
	}
	return rt
}
