package kafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// TestNamedAgainToldOnce: a request that names the same thing over and over is not answered with all of it over and over, which would
// make gigabytes of a few bytes.
func TestNamedAgainToldOnce(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 3})
	name, other := "t", "u"
	m := kmsg.NewPtrMetadataRequest()
	m.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}, {Topic: &other}, {Topic: &name}, {Topic: &name}}
	meta := call[*kmsg.MetadataResponse](b, m, 9)
	if len(meta.Topics) != 2 {
		t.Errorf("Metadata tells of %d topics", len(meta.Topics))
	}
	id := call[*kmsg.MetadataResponse](b, m, 12).Topics[0].TopicID
	m.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: [16]byte{1}}, {TopicID: id}}
	if r := call[*kmsg.MetadataResponse](b, m, 12); len(r.Topics) != 2 || *r.Topics[0].Topic != "t" {
		t.Errorf("Metadata tells of %d topics by id", len(r.Topics))
	}
	g := kmsg.NewPtrDescribeGroupsRequest()
	g.Groups = []string{"g", "h", "g"}
	if r := call[*kmsg.DescribeGroupsResponse](b, g, 5); len(r.Groups) != 2 || r.Groups[1].Group != "h" {
		t.Errorf("DescribeGroups: %+v", r.Groups)
	}
	x := kmsg.NewPtrDescribeTransactionsRequest()
	x.TransactionalIDs = []string{"x", "x"}
	if r := call[*kmsg.DescribeTransactionsResponse](b, x, 0); len(r.TransactionStates) != 1 {
		t.Errorf("DescribeTransactions: %+v", r.TransactionStates)
	}
	o := kmsg.NewPtrOffsetFetchRequest()
	o.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "g"}}
	if r := call[*kmsg.OffsetFetchResponse](b, o, 8); len(r.Groups) != 1 {
		t.Errorf("OffsetFetch: %+v", r.Groups)
	}
	c := kmsg.NewPtrDescribeConfigsRequest()
	for range 2 {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, "t"
		c.Resources = append(c.Resources, r)
	}
	r := call[*kmsg.DescribeConfigsResponse](b, c, 4)
	if len(r.Resources) != 2 || r.Resources[0].ErrorCode != 0 || r.Resources[1].ErrorCode != kerr.InvalidRequest.Code || len(r.Resources[1].Configs) > 0 {
		t.Errorf("DescribeConfigs: %d resources, codes %d, %d", len(r.Resources), r.Resources[0].ErrorCode, r.Resources[1].ErrorCode)
	}
}

// TestUnreadAnswersAreFew: a client that asks and does not read is not answered ahead.
func TestUnreadAnswersAreFew(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 4000}) // an answer is more than is gathered for one write
	client, server := net.Pipe()
	c := newConn(b.server, server)
	if err := c.arrive(); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	const requests = 50
	handled := make(chan error, requests)
	go func() {
		for i := range int32(requests) {
			body := encodeRequest(kmsg.NewPtrMetadataRequest(), 9, i)
			handled <- c.handle(&slot{ready: make(chan struct{}, 1), body: &body})
		}
		close(c.queue)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(c.answers) < maxAnswers {
		<-tick.C
	}
	if n := len(handled); n > maxAnswers {
		t.Errorf("%d requests are answered", n)
	}
	for i := range int32(requests) {
		var head [8]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			t.Fatal(err)
		}
		if corr := int32(binary.BigEndian.Uint32(head[4:])); corr != i {
			t.Fatalf("answer %d in the place of %d", corr, i)
		}
		if _, err := io.CopyN(io.Discard, client, int64(binary.BigEndian.Uint32(head[:]))-4); err != nil {
			t.Fatal(err)
		}
	}
	<-written
	for range requests {
		if err := <-handled; err != nil {
			t.Error(err)
		}
	}
	if len(c.answers) > 0 {
		t.Error(fmt.Sprint(len(c.answers), " answers are held still"))
	}
	_ = client.Close()
	_ = server.Close()
}

// TestLargeRequestsLeaveNoMemoryBehind: what one request of very many partitions took is not kept for as long as its connection lives.
func TestLargeRequestsLeaveNoMemoryBehind(t *testing.T) {
	b := startBroker(t, Options{})
	c := &conn{s: b.server, calls: make(chan *produceCall, 1)}
	for _, n := range []int{10, 100000, 10, 3000, 3000} {
		call := c.newProduce()
		for i := range n {
			call.part(int32(i))
		}
		call.recycle()
		if kept := cap(call.parts) + cap(call.topics) + len(call.spare); kept > 4*keepParts {
			t.Errorf("after a Produce of %d partitions, %d are kept", n, kept)
		}
	}
	req := kmsg.NewPtrFetchRequest()
	req.Topics = []kmsg.FetchRequestTopic{{Topic: "t", Partitions: make([]kmsg.FetchRequestTopicPartition, 100000)}}
	c.fetch.reset(req)
	c.fetchResolve(&c.fetch, req)
	c.fetch.reset(req)
	if cap(c.fetch.parts) > keepParts {
		t.Errorf("after a Fetch of 100000 partitions, %d are kept", cap(c.fetch.parts))
	}
}
