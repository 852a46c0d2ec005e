package kafka

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
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
	apis := newAPITable()
	f.Fuzz(func(t *testing.T, body []byte) {
		h, body, err := parseHeader(body)
		if err != nil {
			return
		}
		a := apis.find(h.key)
		if a == nil {
			return
		}
		req, err := a.parseRequest(h, body)
		if err != nil || req == nil {
			return
		}
		if req.Key() != h.key || req.GetVersion() != h.version {
			t.Fatalf("header %+v, request %d version %d", h, req.Key(), req.GetVersion())
		}
	})
}

// FuzzHandle handles whole requests on a broker that is about to close, so that nothing waits.
func FuzzHandle(f *testing.F) {
	for _, s := range seedRequests() {
		f.Add(s)
	}
	f.Add(encodeRequest(produceRequest("t", 0, 0, plainBatch(3)), 9, 1))
	f.Add(encodeRequest(produceRequest("t", 0, 1, plainBatch(3)), 3, 1))
	f.Add(encodeRequest(fetchRequest("t", 0, 0), 4, 1))
	b := startBroker(f, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	b.server.stop()
	f.Fuzz(func(t *testing.T, body []byte) {
		client, server := net.Pipe()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, client)
		}()
		c := newConn(b.server, server)
		written := make(chan struct{})
		go func() {
			defer close(written)
			c.write()
		}()
		own := bytes.Clone(body)
		_ = c.handle(&slot{ready: make(chan struct{}, 1), body: &own})
		close(c.queue)
		<-written
		_ = server.Close()
		<-read
		c.produces.Wait()
	})
}
