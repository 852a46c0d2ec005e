package kafka

import "github.com/twmb/franz-go/pkg/kmsg"

// ApiVersions: 0 to 4
//
//   - Answered with response header version 0 always. An unknown version is answered with version 0,
//     UNSUPPORTED_VERSION, and the whole list.
//   - No feature is listed: transactions are those of transaction.version 1, groups the classic ones. A broker that
//     advertised more versions than features would break transactional producers.
func apiVersionsAPI() api {
	return api{
		key: kmsg.ApiVersions, min: 0, max: 4, beforeAuth: true,
		handle: serve(func(c *conn, req *kmsg.ApiVersionsRequest) kmsg.Response { return c.s.apiVersions(req) }),
	}
}

func (s *Server) apiVersions(req *kmsg.ApiVersionsRequest) *kmsg.ApiVersionsResponse {
	resp := respond[*kmsg.ApiVersionsResponse](req)
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key.Int16(), a.min, a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}
