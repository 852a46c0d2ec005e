package mirror

import (
	"bytes"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
	"rivulet/sync/compare"
)

// picky makes a centre refuse batches that hold a record with "poison" in its value; named says whether it says which.
func picky(c *kfake.Cluster, code int16, named bool) {
	c.ControlKey(0, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				var d batch.Decoder
				if d.Reset(p.Records, 0) != nil {
					return nil, nil, false
				}
				var bad []int32
				for i := int32(0); ; i++ {
					r, ok := d.Next()
					if !ok {
						break
					}
					if bytes.Contains(r.Payload.Value(), []byte("poison")) {
						bad = append(bad, i)
					}
				}
				if len(bad) == 0 {
					continue
				}
				resp := req.ResponseKind().(*kmsg.ProduceResponse)
				for _, t := range req.Topics {
					rt := kmsg.NewProduceResponseTopic()
					rt.Topic = t.Topic
					for _, q := range t.Partitions {
						rp := kmsg.NewProduceResponseTopicPartition()
						rp.Partition = q.Partition
						if rp.ErrorCode = kerr.NotLeaderForPartition.Code; q.Partition == p.Partition {
							rp.ErrorCode = code
							for _, i := range bad {
								if named {
									rp.ErrorRecords = append(rp.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: i})
								}
							}
						}
						rt.Partitions = append(rt.Partitions, rp)
					}
					resp.Topics = append(resp.Topics, rt)
				}
				return resp, nil, true
			}
		}
		return nil, nil, false
	})
}

// Records that the centre never takes are dead-lettered here, and hold up nothing.
func TestPoisonIsDeadLettered(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  int16
		named bool
	}{
		{"named", kerr.InvalidTimestamp.Code, true},
		{"not named", kerr.InvalidRecord.Code, false},
		{"damaged", kerr.CorruptMessage.Code, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, tv protocol) {
				centre := newCentre(t, tv)
				picky(centre, c.code, c.named)
				h := openHere(t, t.TempDir())
				p := h.topic(t, "telemetry", 1).Partitions[0]
				good := 0
				for i := range 5 {
					h.append(t, p, 20, 50)
					good += 20
					if i%2 == 0 {
						poison := batch.Record{Timestamp: 5, Payload: batch.AppendPayload(nil, []byte("k"), []byte("poison"), []batch.KV{{Key: "own", Value: []byte("h")}})}
						if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: []batch.Record{poison}}}}); err != nil {
							t.Fatal(err)
						}
					}
				}
				u := start(t, options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}))
				u.mirrored(t)
				if n := count(t, centre.ListenAddrs(), "telemetry"); n != good {
					t.Errorf("%d records at the centre, want %d", n, good)
				}
				if s := u.Status(); s.DeadLettered != 3 || s.Partitions[0].DeadLettered != 3 || !u.alarmed("dead-lettered") {
					t.Errorf("status %+v", s)
				}
				dlq, ok := h.store.Topic("telemetry.dlq")
				if !ok {
					t.Fatal("no dead-letter topic")
				}
				var where []string
				for r, err := range compare.Partition(dlq.Partitions[0]) {
					if err != nil {
						t.Fatal(err)
					}
					if string(r.Value) != "poison" || string(r.Key) != "k" || len(r.Headers) != 4 || r.Headers[0].Key != "own" {
						t.Errorf("dead letter %+v", r)
					}
					for _, kv := range r.Headers {
						if kv.Key == "rivulet.source" {
							where = append(where, string(kv.Value))
						}
						if kv.Key == "rivulet.uplink" && string(kv.Value) != "cloud" {
							t.Errorf("uplink %s", kv.Value)
						}
					}
				}
				if got := strings.Join(where, " "); got != "telemetry/0/20 telemetry/0/61 telemetry/0/102" {
					t.Errorf("dead letters from %s", got)
				}
				// A restart dead-letters nothing again.
				u.stop()
				h.append(t, p, 5, 50)
				u = start(t, options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}))
				u.mirrored(t)
				if _, _, high := dlq.Partitions[0].Offsets(); high != 3 {
					t.Errorf("%d dead letters", high)
				}
			})
		})
	}
}

// A batch that is too large for the centre is cut, whether or not the centre tells its bound beforehand.
func TestTooLargeIsCut(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "not told": false} {
		t.Run(name, func(t *testing.T) {
			c := newCentre(t, tv2)
			max := "20000"
			if err := c.CreateTopic("telemetry", 1, map[string]string{"max.message.bytes": max}); err != nil {
				t.Fatal(err)
			}
			if !told {
				c.ControlKey(32, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					resp := kreq.ResponseKind().(*kmsg.DescribeConfigsResponse)
					for _, r := range kreq.(*kmsg.DescribeConfigsRequest).Resources {
						resp.Resources = append(resp.Resources, kmsg.DescribeConfigsResponseResource{
							ErrorCode: kerr.TopicAuthorizationFailed.Code, ResourceType: r.ResourceType, ResourceName: r.ResourceName,
						})
					}
					return resp, nil, true
				})
			}
			h := openHere(t, t.TempDir())
			p := h.topic(t, "telemetry", 1).Partitions[0]
			noise := make([]byte, 30000)
			for i := range noise {
				noise[i] = byte(uint32(i) * uint32(i) * 2654435761 >> 13)
			}
			h.append(t, p, 2000, 200)
			large := batch.Record{Timestamp: 5, Payload: batch.AppendPayload(nil, nil, noise, nil)}
			if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: []batch.Record{large}}}}); err != nil {
				t.Fatal(err)
			}
			h.append(t, p, 2000, 200)
			u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
			u.mirrored(t)
			if n := count(t, c.ListenAddrs(), "telemetry"); n != 4000 {
				t.Errorf("%d records, want 4000", n)
			}
			if s := u.Status(); s.DeadLettered != 1 {
				t.Errorf("%d dead letters", s.DeadLettered)
			}
			if told && u.Status().Aborted > 1 {
				t.Errorf("%d transactions failed although the bound was known", u.Status().Aborted)
			}
		})
	}
}
