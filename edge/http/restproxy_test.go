package http

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRestProxyProduces(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 2)
	h.kind = restBinary
	var out RestOffsets
	h.do("POST", "/topics/a", `{"records":[{"key":"aw==","value":"/wA=","partition":1},{"value":null,"partition":0},{"value":"","partition":0}]}`, 200, &out)
	if len(out.Offsets) != 3 || *out.Offsets[0].Partition != 1 || *out.Offsets[2].Offset != 1 || out.Offsets[0].ErrorCode != nil {
		t.Errorf("%+v", out)
	}
	h.kind = restJSON + "; charset=utf-8"
	h.do("POST", "/topics/a/partitions/1", `{"records":[{"key":"k","value":{"temp": 5}}]}`, 200, &out)

	var page Records
	h.do("GET", "/v1/topics/a/records", nil, 200, &page)
	for i := range page.Records {
		page.Records[i].Timestamp = 0
	}
	want := []Record{
		{Partition: 0, Offset: 0},
		{Partition: 0, Offset: 1, Value: Data{}},
		{Partition: 1, Offset: 0, Key: Data("k"), Value: Data{0xff, 0}},
		{Partition: 1, Offset: 1, Key: Data(`"k"`), Value: Data(`{"temp": 5}`)},
	}
	if diff := cmp.Diff(want, page.Records); diff != "" {
		t.Error(diff)
	}

	var bad RestError
	h.do("POST", "/topics/none", `{"records":[{"value":1}]}`, 404, &bad)
	if bad.ErrorCode != 40401 {
		t.Errorf("%+v", bad)
	}
	h.do("POST", "/topics/a/partitions/2", `{"records":[{"value":1}]}`, 404, &bad)
	if bad.ErrorCode != 40402 {
		t.Errorf("%+v", bad)
	}
	h.do("POST", "/topics/a", `{"records":[]}`, 422, nil)
	h.do("POST", "/topics/a", `{"records":`, 400, nil)
	h.kind = restBinary
	h.do("POST", "/topics/a", `{"records":[{"value":"*"}]}`, 400, nil)
	h.do("POST", "/topics/a", `{"records":[{"value":{}}]}`, 400, nil)
	h.kind = "application/vnd.kafka.avro.v2+json"
	h.do("POST", "/topics/a", `{"records":[{"value":1}]}`, 415, nil)
}
