package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// IncrementalAlterConfigs: 0 to 1
//
// Sets and deletes single keys of a topic, appends to and subtracts from lists. The node's configuration is read-only.
func incrementalAlterConfigsAPI() api {
	return api{key: kmsg.IncrementalAlterConfigs, min: 0, max: 1, handle: serve((*conn).incrementalAlterConfigs)}
}

func (c *conn) incrementalAlterConfigs(req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := respond[*kmsg.IncrementalAlterConfigsResponse](req)
	for i := range req.Resources {
		r := &req.Resources[i]
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		set, err := c.configChanges(r)
		code := kerr.InvalidRequest.Code
		if err == nil {
			code, err = c.alterConfig(r.ResourceType, r.ResourceName, set, req.ValidateOnly)
		}
		rr.ErrorCode, rr.ErrorMessage = code, message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

// configChanges are the keys' new values; nil takes a key back to its default.
func (c *conn) configChanges(r *kmsg.IncrementalAlterConfigsRequestResource) (map[string]*string, error) {
	current := map[string]string{}
	if t, ok := c.s.broker.Store().Topic(r.ResourceName); ok {
		for _, v := range topicConfigValues(t.Config) {
			current[v.name] = v.value
		}
	}
	set := make(map[string]*string)
	for _, cfg := range r.Configs {
		if _, twice := set[cfg.Name]; twice {
			return nil, fmt.Errorf("%s is named twice", cfg.Name)
		}
		if cfg.Op != kmsg.IncrementalAlterConfigOpDelete && cfg.Value == nil {
			return nil, fmt.Errorf("%s has no value", cfg.Name)
		}
		switch cfg.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			set[cfg.Name] = cfg.Value
		case kmsg.IncrementalAlterConfigOpDelete:
			set[cfg.Name] = nil
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			value := changeList(current[cfg.Name], *cfg.Value, cfg.Op == kmsg.IncrementalAlterConfigOpAppend)
			set[cfg.Name] = &value
		default:
			return nil, fmt.Errorf("%s: unknown operation %d", cfg.Name, cfg.Op)
		}
	}
	return set, nil
}

func changeList(list, change string, add bool) string {
	var values []string
	if list != "" {
		values = strings.Split(list, ",")
	}
	for v := range strings.SplitSeq(change, ",") {
		i := slices.Index(values, v)
		switch {
		case add && i < 0:
			values = append(values, v)
		case !add && i >= 0:
			values = slices.Delete(values, i, i+1)
		}
	}
	return strings.Join(values, ",")
}

var errUnknownKey = errors.New("unknown configuration key")

// alterConfig changes a topic's configuration.
func (c *conn) alterConfig(kind kmsg.ConfigResourceType, name string, set map[string]*string, validateOnly bool) (int16, error) {
	switch {
	case kind == kmsg.ConfigResourceTypeBroker && !c.allow(edge.OpClusterAlterConfigs, ""):
		return kerr.ClusterAuthorizationFailed.Code, edge.ErrNotAuthorized
	case kind == kmsg.ConfigResourceTypeBroker:
		return kerr.PolicyViolation.Code, errReadOnly
	case kind != kmsg.ConfigResourceTypeTopic:
		return kerr.InvalidRequest.Code, errNoConfig
	case !c.allow(edge.OpAlterConfigs, name):
		return kerr.TopicAuthorizationFailed.Code, edge.ErrNotAuthorized
	case edge.Internal(name):
		return kerr.TopicAuthorizationFailed.Code, edge.ErrInternal
	}
	if _, ok := c.s.broker.Store().Topic(name); !ok {
		return kerr.UnknownTopicOrPartition.Code, edge.ErrNoTopic
	}
	values := make(map[string]string)
	for key, value := range set {
		if value != nil {
			values[key] = *value
		} else if !slices.ContainsFunc(edge.TopicConfigs(), func(k edge.ConfigKey) bool { return k.Name == key }) {
			return kerr.InvalidConfig.Code, fmt.Errorf("%w %q", errUnknownKey, key)
		}
	}
	if err := edge.CheckTopicConfig(values); err != nil {
		return c.code(err), err
	}
	if validateOnly || len(set) == 0 {
		return 0, nil
	}
	if _, err := c.s.broker.AlterTopic(c.ctx(), name, set); err != nil {
		return c.code(err), err
	}
	c.log.Info("topic configuration changed", "topic", name, "client", c.who.Client)
	return 0, nil
}
