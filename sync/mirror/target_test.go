package mirror

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noCreate makes a centre refuse to make the topics that refuse names.
func noCreate(c *kfake.Cluster, refuse func(topic string) bool) {
	c.ControlKey(19, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.CreateTopicsRequest)
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic = t.Topic
			if refuse(t.Topic) {
				rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else if err := c.CreateTopic(t.Topic, t.NumPartitions, nil); err != nil {
				rt.ErrorCode = kerr.TopicAlreadyExists.Code
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// A topic that the centre lacks and does not let us make holds up its own records only.
func TestForbiddenTopicHoldsUpItself(t *testing.T) {
	c := newCentre(t, tv2)
	noCreate(c, func(topic string) bool { return topic == "forbidden" })
	h := openHere(t, t.TempDir())
	h.append(t, h.topic(t, "forbidden", 1).Partitions[0], 10, 10)
	h.append(t, h.topic(t, "allowed", 1).Partitions[0], 10, 10)
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "*"}))
	eventually(t, "the allowed topic is mirrored", func() bool { return u.Status().Records == 10 })
	equal(t, h, "allowed", c.ListenAddrs(), "allowed")
	for _, p := range u.Status().Partitions {
		if blocked := p.Blocked != ""; blocked != (p.Topic == "forbidden") {
			t.Errorf("%s: blocked %q", p.Topic, p.Blocked)
		}
		if p.Topic == "forbidden" && (p.Lag != 10 || !strings.Contains(p.Blocked, "does not let this edge make it")) {
			t.Errorf("%+v", p)
		}
	}
}

func TestProgressTopicIsNeeded(t *testing.T) {
	c := newCentre(t, tv2)
	noCreate(c, func(topic string) bool { return topic == progressTopic })
	h := openHere(t, t.TempDir())
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 10, 10)
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	eventually(t, "the error says what to do", func() bool {
		return strings.Contains(u.Status().Error, "create it with 16 partitions, or allow this edge to")
	})
	if err := c.CreateTopic(progressTopic, 1, nil); err != nil {
		t.Fatal(err)
	}
	u.mirrored(t)
}

// More partitions than one offset's metadata can hold are spread over several.
func TestManyPartitions(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		h := openHere(t, t.TempDir())
		tp := h.topic(t, "telemetry", 600)
		for _, p := range tp.Partitions {
			h.append(t, p, 2, 20)
		}
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		u.mirrored(t)
		u.stop()
		for _, p := range tp.Partitions[:50] {
			h.append(t, p, 1, 20)
		}
		u = start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		u.mirrored(t)
		if s := u.Status(); s.Records != 50 {
			t.Errorf("%d records after a restart, want 50", s.Records)
		}
		u.stop()
		offsets, err := admin(t, c.ListenAddrs()).FetchOffsets(t.Context(), "rivulet-e1-cloud")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(offsets[progressTopic]); n < 2 {
			t.Errorf("%d offsets hold the positions of 600 partitions", n)
		}
		for _, i := range []int{0, 599} {
			if got := tp.Partitions[i]; got.Index != int32(i) {
				t.Fatal("partitions are out of order")
			}
		}
	})
}

// The limit holds on average, over bursts of a second at most.
func TestLimit(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	for range 60 {
		h.append(t, p, 1000, 200)
	}
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	o.LimitBytes = 512 << 10
	began := time.Now()
	u := start(t, o)
	u.mirrored(t)
	took := time.Since(began).Seconds()
	// A second's worth may have been saved up, and the last burst is not waited off.
	if sent := float64(u.Status().Bytes); sent < 3*float64(o.LimitBytes) || took < sent/float64(o.LimitBytes)-2.2 {
		t.Errorf("%.0f bytes in %.1f s", sent, took)
	}
}
