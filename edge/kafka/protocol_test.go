package kafka

import (
	"encoding/binary"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// Versions, damaged requests, authentication.

func TestAdvertisedVersions(t *testing.T) {
	b := startBroker(t, Options{})
	resp := call[*kmsg.ApiVersionsResponse](b, kmsg.NewPtrApiVersionsRequest(), 4)
	got := map[int16][2]int16{}
	for _, k := range resp.ApiKeys {
		got[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	// What librdkafka before 2.11 must find within the range, or it switches features off (its rdkafka_feature.c).
	for key, versions := range map[int16][]int16{
		0: {0, 3, 7}, 1: {4, 10}, 2: {1}, 8: {2}, 9: {1}, 10: {0}, 11: {0}, 12: {0}, 13: {0}, 14: {0}, 17: {0, 1}, 18: {0}, 22: {0}, 23: {2}, 36: {0},
	} {
		for _, v := range versions {
			if r, ok := got[key]; !ok || v < r[0] || v > r[1] {
				t.Errorf("%s version %d is not advertised: %v", kmsg.NameForKey(key), v, r)
			}
		}
	}
	if got[0][1] > 11 || got[26][1] > 4 || got[28][1] > 4 || len(resp.FinalizedFeatures) > 0 {
		t.Error("versions of transaction.version 2 without the feature")
	}
	for key := range notImplemented() {
		if _, ok := got[key.Int16()]; ok {
			t.Errorf("%s is served and in the list of what is not", key.Name())
		}
	}
}

func TestUnknownVersions(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()

	// ApiVersions: version 0's body, the error, and the whole list.
	h := binary.BigEndian.AppendUint16(nil, 18)
	h = binary.BigEndian.AppendUint16(h, 99)
	h = binary.BigEndian.AppendUint32(h, 77)
	r.sendBytes(append(h, 0xff, 0xff, 0xde, 0xad))
	resp := kmsg.NewPtrApiVersionsResponse()
	r.decode(resp, 77)
	if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) < 30 {
		t.Errorf("ApiVersions version 99: %+v", resp)
	}

	// A version that the codec knows and we do not serve: the error in that version's shape.
	if got := ask[*kmsg.FetchResponse](r, fetchRequest("t", 0, 0), 16); got.ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("Fetch version 16: %+v", got)
	}
	if got := ask[*kmsg.InitProducerIDResponse](r, kmsg.NewPtrInitProducerIDRequest(), 5); got.ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("InitProducerId version 5: %+v", got)
	}
	if got := ask[*kmsg.ProduceResponse](r, produceRequest("t", 0, 1, plainBatch(1)), 12).Topics[0].Partitions[0].ErrorCode; got != kerr.UnsupportedVersion.Code {
		t.Errorf("Produce version 12: %v", kerr.ErrorForCode(got))
	}
	// The connection goes on.
	if got := r.produce("t", 0, plainBatch(1)); got.ErrorCode != 0 {
		t.Errorf("afterwards: %v", kerr.ErrorForCode(got.ErrorCode))
	}
}

func TestBadRequestsCloseTheConnection(t *testing.T) {
	b := startBroker(t, Options{MaxRequest: 1 << 20}, edge.TopicSpec{Name: "t", Partitions: 1})
	header := func(key, version uint16) []byte {
		h := binary.BigEndian.AppendUint16(nil, key)
		h = binary.BigEndian.AppendUint16(h, version)
		return append(h, 0, 0, 0, 1, 0xff, 0xff)
	}
	for name, raw := range map[string][]byte{
		"empty":             {},
		"short header":      {0, 3, 0},
		"unknown key":       header(999, 0),
		"key not served":    header(49, 0), // AlterClientQuotas
		"damaged body":      append(header(3, 1), 0x7f, 0xff, 0xff, 0xff),
		"missing body":      header(1, 4),
		"client id too far": {0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff},
	} {
		r := dial(b)
		r.sendBytes(raw)
		r.wantClosed()
		r.close()
		_ = name
	}
	for name, size := range map[string]uint32{"too large": 1<<20 + 1, "negative": 1 << 31} {
		r := dial(b)
		if _, err := r.nc.Write(binary.BigEndian.AppendUint32(nil, size)); err != nil {
			t.Fatal(name, err)
		}
		r.wantClosed()
		r.close()
	}
	// Others go on.
	if got := call[*kmsg.MetadataResponse](b, kmsg.NewPtrMetadataRequest(), 5); len(got.Brokers) != 1 {
		t.Errorf("metadata %+v", got)
	}
}

func TestSASLWhereNoneIsConfigured(t *testing.T) {
	b := startBroker(t, Options{})
	if got := call[*kmsg.SASLHandshakeResponse](b, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 1); got.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("handshake: %+v", got)
	}
	if got := call[*kmsg.SASLAuthenticateResponse](b, kmsg.NewPtrSASLAuthenticateRequest(), 0); got.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("authenticate: %+v", got)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	b := startBroker(t, Options{})
	if got := call[*kmsg.MetadataResponse](b, kmsg.NewPtrMetadataRequest(), 5).Brokers[0]; got.Host != "127.0.0.1" {
		t.Errorf("node %+v, want the address that was dialled", got)
	}
	other := startBroker(t, Options{Advertised: "gw7.plant.example:9092"})
	if got := call[*kmsg.MetadataResponse](other, kmsg.NewPtrMetadataRequest(), 5).Brokers[0]; got.Host != "gw7.plant.example" || got.Port != 9092 {
		t.Errorf("node %+v", got)
	}
	for _, bad := range []string{"gw7", "gw7:0", ":9092", "gw7:port"} {
		if _, err := New(Options{Broker: b.edge, Advertised: bad}); err == nil {
			t.Errorf("advertised address %q is accepted", bad)
		}
	}
}

// TestEveryVersionAnswers sends each request that is served, empty, at each version, and decodes the answer.
func TestEveryVersionAnswers(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	for _, a := range newAPITable() {
		if a == nil || a.key == kmsg.SASLAuthenticate {
			continue
		}
		for v := a.min; v <= a.max; v++ {
			req := a.key.Request()
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			if p, ok := req.(*kmsg.ProduceRequest); ok {
				p.Acks = 1
			}
			call[kmsg.Response](b, req, v)
		}
	}
}
