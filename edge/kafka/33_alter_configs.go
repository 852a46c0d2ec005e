package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// AlterConfigs: 0 to 2
//
// Replaces the whole configuration of a topic: what is not named goes back to its default. The node's is read-only.
func alterConfigsAPI() api {
	return api{key: kmsg.AlterConfigs, min: 0, max: 2, handle: serve((*conn).alterConfigs)}
}

func (c *conn) alterConfigs(req *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := respond[*kmsg.AlterConfigsResponse](req)
	for _, r := range req.Resources {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		set := make(map[string]*string)
		for _, k := range edge.TopicConfigs() {
			set[k.Name] = nil
		}
		for _, cfg := range r.Configs {
			set[cfg.Name] = cfg.Value
		}
		code, err := c.alterConfig(r.ResourceType, r.ResourceName, set, req.ValidateOnly)
		rr.ErrorCode, rr.ErrorMessage = code, message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}
