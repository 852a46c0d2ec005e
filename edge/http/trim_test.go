package http

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTrim(t *testing.T) {
	h := newHarness(t)
	h.do("POST", "/v1/topics", NewTopic{Name: "t", Partitions: 2}, 201, nil)
	h.do("POST", "/v1/topics", NewTopic{Name: "c", Config: map[string]string{"cleanup.policy": "compact"}}, 201, nil)
	var records []NewRecord
	part := int32(0)
	for i := range 5 {
		records = append(records, NewRecord{Partition: &part, Timestamp: time.Now().Add(time.Duration(i-10) * time.Minute).UnixMilli(), Value: Data("v")})
	}
	h.do("POST", "/v1/topics/t/records", NewRecords{Records: records}, 200, nil)

	var got Trimmed
	h.do("POST", "/v1/topics/t/trim", TopicTrim{Before: "2", DryRun: true}, 200, &got)
	want := Trimmed{Records: 2, Partitions: []TrimmedPartition{{0, 0, 2}, {1, 0, 0}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var topic Topic
	if h.do("GET", "/v1/topics/t", nil, 200, &topic); topic.Partitions[0].Start != 0 {
		t.Error("a dry run deleted records")
	}
	h.do("POST", "/v1/topics/t/trim", TopicTrim{Before: "2"}, 200, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	h.do("POST", "/v1/topics/t/trim", TopicTrim{Before: "-7m30s", Partition: &part}, 200, &got)
	if topic = (Topic{}); true {
		h.do("GET", "/v1/topics/t", nil, 200, &topic)
	}
	if topic.Partitions[0].Start != 3 || topic.Records != 2 {
		t.Errorf("before a time: %+v", topic)
	}
	for body, status := range map[string]int{
		`{}`: 400, `{"before": "noon"}`: 400, `{"before": "6", "partition": 0}`: 400, `{"before": "1", "partition": 2}`: 404, `{"befor": "1"}`: 400,
	} {
		h.do("POST", "/v1/topics/t/trim", body, status, nil)
	}
	h.do("POST", "/v1/topics/c/trim", TopicTrim{Before: "latest"}, 409, nil)
	h.do("POST", "/v1/topics/none/trim", TopicTrim{Before: "latest"}, 404, nil)
	h.do("POST", "/v1/topics/_rivulet-x/trim", TopicTrim{Before: "latest"}, 404, nil)
	h.do("POST", "/v1/topics/t/trim", TopicTrim{Before: "latest"}, 200, &got)
	if got.Partitions[0].Start != 5 {
		t.Errorf("everything: %+v", got)
	}
	h.do("GET", "/v1/topics/t/records?partition=0&from=1", nil, 200, nil)
}
