package mirror

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// others checks that what the centre does not take of topic dark holds up dark alone, and that dark goes on when lift has been called.
func others(t *testing.T, tv protocol, break_ func(*kfake.Cluster) (lift func()), why string) {
	c := newCentre(t, tv, kfake.ClusterID("c"))
	for i, topic := range []string{"dark", "lit"} {
		if err := c.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.MoveTopicPartition(topic, 0, int32(i)); err != nil {
			t.Fatal(err)
		}
	}
	lift := break_(c)
	h := openHere(t, t.TempDir())
	dark, lit := h.topic(t, "dark", 1).Partitions[0], h.topic(t, "lit", 1).Partitions[0]
	h.append(t, dark, 10, 10)
	h.append(t, lit, 10, 10)
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "dark", Priority: 9}, Rule{Topic: "lit"})
	o.txnTimeout = 2 * time.Second
	u := start(t, o)
	eventually(t, "the other topic is mirrored", func() bool { return u.Status().Records == 10 })
	h.append(t, lit, 10, 10)
	eventually(t, "more of it", func() bool { return u.Status().Records == 20 })
	equal(t, h, "lit", c.ListenAddrs(), "lit")
	for _, p := range u.Status().Partitions {
		if p.Topic == "dark" && !strings.Contains(p.Blocked, why) || p.Topic == "lit" && p.Blocked != "" {
			t.Errorf("%s: blocked %q", p.Topic, p.Blocked)
		}
	}
	lift()
	u.stop() // it would look again by itself, after a while
	u = start(t, o)
	u.mirrored(t)
	equal(t, h, "dark", c.ListenAddrs(), "dark")
	equal(t, h, "lit", c.ListenAddrs(), "lit")
}

func TestForbiddenWriteHoldsUpItself(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		others(t, tv, func(c *kfake.Cluster) func() {
			var lifted atomic.Bool
			c.ControlKey(24, func(kreq kmsg.Request) (kmsg.Response, error, bool) { // as Kafka answers it
				c.KeepControl()
				req := kreq.(*kmsg.AddPartitionsToTxnRequest)
				if lifted.Load() || !slices.ContainsFunc(req.Topics, func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return t.Topic == "dark" }) {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
				for _, t := range req.Topics {
					rt := kmsg.NewAddPartitionsToTxnResponseTopic()
					rt.Topic = t.Topic
					for _, p := range t.Partitions {
						rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
						if rp.Partition, rp.ErrorCode = p, kerr.OperationNotAttempted.Code; t.Topic == "dark" {
							rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
						}
						rt.Partitions = append(rt.Partitions, rp)
					}
					resp.Topics = append(resp.Topics, rt)
				}
				return resp, nil, true
			})
			f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dark", Err: kerr.TopicAuthorizationFailed, Count: -1})
			return func() { f.Remove(); lifted.Store(true) }
		}, "TOPIC_AUTHORIZATION_FAILED")
	})
}

func TestUnderReplicatedPartitionHoldsUpItself(t *testing.T) {
	t.Parallel()
	others(t, tv2, func(c *kfake.Cluster) func() {
		return c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dark", Err: kerr.NotEnoughReplicas, Count: -1}).Remove
	}, "NOT_ENOUGH_REPLICAS")
}

func TestPartitionWithoutLeaderHoldsUpItself(t *testing.T) {
	t.Parallel()
	others(t, tv2, func(c *kfake.Cluster) func() {
		if err := c.CreateTopic(progressTopic, progressPartitions, nil); err != nil {
			t.Fatal(err)
		}
		var lifted atomic.Bool
		c.ControlKey(3, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			req := kreq.(*kmsg.MetadataRequest)
			if lifted.Load() {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			resp.ClusterID, resp.ControllerID = new("c"), 0
			for i, addr := range c.ListenAddrs() {
				b := kmsg.NewMetadataResponseBroker()
				b.NodeID, b.Host, b.Port = int32(i), "127.0.0.1", int32(portOf(t, addr))
				resp.Brokers = append(resp.Brokers, b)
			}
			for _, rt := range req.Topics {
				mt := kmsg.NewMetadataResponseTopic()
				mt.Topic = rt.Topic
				infos := c.PartitionInfos(*rt.Topic)
				if len(infos) == 0 {
					mt.ErrorCode = kerr.UnknownTopicOrPartition.Code
				}
				for _, p := range infos {
					mp := kmsg.NewMetadataResponseTopicPartition()
					mp.Partition, mp.Leader = p.Partition, p.Leader
					if *rt.Topic == "dark" {
						mp.Leader, mp.ErrorCode = -1, kerr.LeaderNotAvailable.Code
					}
					mt.Partitions = append(mt.Partitions, mp)
				}
				resp.Topics = append(resp.Topics, mt)
			}
			return resp, nil, true
		})
		return func() { lifted.Store(true) }
	}, "has no leader")
}
