package kafka

import (
	"errors"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeConfigs: 1 to 4
//
// Topics and the node: every key with its value, default, source and type, and what it means where that is asked for
// (from version 3), since tools read, change and write the whole. A resource that is named twice: INVALID_REQUEST.
func describeConfigsAPI() api {
	return api{key: kmsg.DescribeConfigs, min: 1, max: 4, handle: serve((*conn).describeConfigs)}
}

var (
	errNamedTwice = errors.New("resource is named twice")
	errNoConfig   = errors.New("only topics and node 0 have a configuration")
	errReadOnly   = errors.New("the node's configuration is managed by its configuration file")
)

func (c *conn) describeConfigs(req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeConfigsResponse](req)
	type resource struct {
		kind kmsg.ConfigResourceType
		name string
	}
	told := make(map[resource]bool, len(req.Resources))
	for _, r := range req.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName, rr.Configs = r.ResourceType, r.ResourceName, []kmsg.DescribeConfigsResponseResourceConfig{}
		key := resource{r.ResourceType, r.ResourceName}
		if told[key] {
			rr.ErrorCode, rr.ErrorMessage = kerr.InvalidRequest.Code, message(errNamedTwice)
			resp.Resources = append(resp.Resources, rr)
			continue
		}
		told[key] = true
		values, code, err := c.configOf(r.ResourceType, r.ResourceName)
		rr.ErrorCode, rr.ErrorMessage = code, message(err)
		for _, v := range values {
			if r.ConfigNames == nil || slices.Contains(r.ConfigNames, v.name) {
				rr.Configs = append(rr.Configs, v.describe(req))
			}
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func (c *conn) configOf(kind kmsg.ConfigResourceType, name string) ([]configValue, int16, error) {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if !c.allow(edge.OpDescribeConfigs, name) {
			return nil, kerr.TopicAuthorizationFailed.Code, edge.ErrNotAuthorized
		}
		t, ok := c.s.broker.Store().Topic(name)
		if !ok {
			return nil, kerr.UnknownTopicOrPartition.Code, edge.ErrNoTopic
		}
		return topicConfigValues(t.Config), 0, nil
	case kmsg.ConfigResourceTypeBroker:
		if !c.allow(edge.OpClusterDescribeConfigs, "") {
			return nil, kerr.ClusterAuthorizationFailed.Code, edge.ErrNotAuthorized
		}
		if name == "" {
			return nil, 0, nil // what is set for all nodes: nothing
		}
		if name == strconv.Itoa(nodeID) {
			return c.nodeConfigValues(), 0, nil
		}
	}
	return nil, kerr.InvalidRequest.Code, errNoConfig
}

func (v configValue) describe(req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	rc := kmsg.NewDescribeConfigsResponseResourceConfig()
	rc.Name, rc.Value, rc.ReadOnly, rc.Source, rc.ConfigType = v.name, &v.value, v.readOnly, v.source, v.kind
	rc.IsDefault = v.source == kmsg.ConfigSourceDefaultConfig
	if req.IncludeDocumentation {
		rc.Documentation = &v.doc
	}
	if req.IncludeSynonyms {
		if v.source != kmsg.ConfigSourceDefaultConfig {
			rc.ConfigSynonyms = append(rc.ConfigSynonyms, kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{
				Name: v.name, Value: &v.value, Source: v.source,
			})
		}
		rc.ConfigSynonyms = append(rc.ConfigSynonyms, kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{
			Name: v.name, Value: &v.def, Source: kmsg.ConfigSourceDefaultConfig,
		})
	}
	return rc
}
