package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// api is one request that is served.
type api struct {
	key      kmsg.Key
	min, max int16 // advertised
	served   int16 // older versions are advertised only
	handle   func(*conn, kmsg.Request) kmsg.Response
	// refuse answers a version that is not served, in that version's shape. Nil: a refusal has no place in the response.
	refuse func(req kmsg.Request, code int16) kmsg.Response
	// beforeAuth: served to clients that have not authenticated.
	beforeAuth bool
	shapes     []shape // of its flexible versions
	// keeps: what the handler keeps aliases the request's buffer.
	keeps bool
}

type apiTable []*api

func (t apiTable) find(key int16) *api {
	if key < 0 || int(key) >= len(t) {
		return nil
	}
	return t[key]
}

// newAPITable lists what is served, by key.
func newAPITable() apiTable {
	list := []api{
		produceAPI(), fetchAPI(), listOffsetsAPI(), metadataAPI(),
		offsetCommitAPI(), offsetFetchAPI(), findCoordinatorAPI(),
		joinGroupAPI(), heartbeatAPI(), leaveGroupAPI(), syncGroupAPI(), describeGroupsAPI(), listGroupsAPI(),
		saslHandshakeAPI(), apiVersionsAPI(),
		createTopicsAPI(), deleteTopicsAPI(), deleteRecordsAPI(), initProducerIDAPI(), offsetForLeaderEpochAPI(),
		addPartitionsToTxnAPI(), addOffsetsToTxnAPI(), endTxnAPI(), txnOffsetCommitAPI(),
		describeACLsAPI(), createACLsAPI(), deleteACLsAPI(),
		describeConfigsAPI(), alterConfigsAPI(), describeLogDirsAPI(), saslAuthenticateAPI(), createPartitionsAPI(),
		deleteGroupsAPI(), incrementalAlterConfigsAPI(), offsetDeleteAPI(), describeClientQuotasAPI(), describeUserSCRAMAPI(), alterUserSCRAMAPI(),
		describeClusterAPI(),
		describeTransactionsAPI(), listTransactionsAPI(),
	}
	shapes := requestShapes()
	var t apiTable
	for i := range list {
		a := &list[i]
		a.shapes = shapes[a.key]
		for len(t) <= int(a.key) {
			t = append(t, nil)
		}
		t[a.key] = a
	}
	return t
}

// serve makes a handler of a typed one.
func serve[R kmsg.Request](f func(*conn, R) kmsg.Response) func(*conn, kmsg.Request) kmsg.Response {
	return func(c *conn, req kmsg.Request) kmsg.Response { return f(c, req.(R)) }
}

// respond is the empty response to req, in its version and with its defaults.
func respond[P interface {
	*T
	kmsg.Response
}, T any](req kmsg.Request) P {
	resp := req.ResponseKind().(P)
	if d, ok := any(resp).(interface{ Default() }); ok {
		version := resp.GetVersion()
		d.Default()
		resp.SetVersion(version)
	}
	return resp
}

// refuseVersion answers a version that is not served. ApiVersions is answered with version 0, which every client
// understands; a version that the codec does not know, in the shape of the newest that it does.
func (c *conn) refuseVersion(sl *slot, a *api, h header, req kmsg.Request) error {
	c.log.Debug("Kafka request of an unsupported version", "request", a.key.Name(), "version", h.version, "client", c.who.Client)
	if a.key == kmsg.ApiVersions {
		req := kmsg.NewPtrApiVersionsRequest()
		resp := c.s.apiVersions(req)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		c.answer(sl, resp)
		return nil
	}
	if req == nil {
		req = a.key.Request()
		req.SetVersion(min(max(h.version, 0), req.MaxVersion()))
	}
	if a.refuse != nil {
		if resp := a.refuse(req, kerr.UnsupportedVersion.Code); resp != nil {
			c.answer(sl, resp)
			return nil
		}
	}
	return fmt.Errorf("%s version %d is not served: want %d to %d", a.key.Name(), h.version, a.min, a.max)
}

// notImplemented says why a request is not served.
func notImplemented() map[kmsg.Key]string {
	const (
		replicas  = "between the nodes of a cluster; there is one node"
		quotas    = "clients share what there is; there are no quotas for single users"
		newGroups = "groups use the classic protocol, which every client speaks"
		share     = "share groups are not offered"
	)
	return map[kmsg.Key]string{
		4: replicas, 5: replicas, 6: replicas, 7: replicas, 27: replicas, 34: replicas, 43: replicas, 45: replicas, 46: replicas,
		49: quotas,
		38: "delegation tokens are not offered", 39: "delegation tokens are not offered", 40: "delegation tokens are not offered",
		41: "delegation tokens are not offered",
		57: "there are no features to finalise",
		61: "the log shows a producer's open transactions only; see ListTransactions",
		68: newGroups, 69: newGroups,
		71: "client telemetry is not collected", 72: "client telemetry is not collected",
		74: "clients fall back to DescribeConfigs", 75: "clients fall back to Metadata",
		76: share, 77: share, 78: share, 79: share, 90: share, 91: share, 92: share,
	}
}

func reasonFor(key int16) string {
	if r, ok := notImplemented()[kmsg.Key(key)]; ok {
		return r
	}
	return "unknown"
}
