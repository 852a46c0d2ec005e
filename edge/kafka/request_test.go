package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// seedRequests are requests as clients send them, the shortest version and the longest of each.
func seedRequests() [][]byte {
	var seeds [][]byte
	for key := range int16(100) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for _, v := range []int16{0, req.MaxVersion()} {
			r := kmsg.RequestForKey(key)
			seeds = append(seeds, encodeRequest(r, v, 1))
		}
	}
	p := kmsg.NewPtrProduceRequest()
	p.Acks = -1
	p.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, 61)}}}}
	return append(seeds, encodeRequest(p, 9, 2), []byte{}, []byte{0, 0, 0}, []byte{0, 3, 0, 9, 0, 0, 0, 1, 255, 255})
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range seedRequests() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, req, err := parseRequest(body)
		if err != nil || req == nil {
			return
		}
		if req.Key() != h.key || req.GetVersion() != h.version {
			t.Fatalf("header %+v, request %d version %d", h, req.Key(), req.GetVersion())
		}
	})
}
