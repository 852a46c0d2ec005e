package http

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"rivulet/edge"
)

// The part of Confluent's REST Proxy, version 2, that produces: programs that were written for it work here. Its errors have a
// form of their own, and codes of five digits, of which the first three are HTTP's.

// Media types of what records hold.
const (
	restBinary = "application/vnd.kafka.binary.v2+json" // base64
	restJSON   = "application/vnd.kafka.json.v2+json"   // any JSON, stored as it is
	restAnswer = "application/vnd.kafka.v2+json"
)

// RestRecords is the body that produces.
type RestRecords struct {
	Records []RestRecord `json:"records"`
}

// RestRecord is one record. Key and value are base64 text or any JSON, as the media type says.
type RestRecord struct {
	Key       json.RawMessage `json:"key,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Partition *int32          `json:"partition,omitempty"`
}

// RestOffsets is the answer.
type RestOffsets struct {
	Offsets       []RestOffset `json:"offsets"`
	KeySchemaID   *int         `json:"key_schema_id"`
	ValueSchemaID *int         `json:"value_schema_id"`
}

// RestOffset is where one record went.
type RestOffset struct {
	Partition *int32  `json:"partition"`
	Offset    *int64  `json:"offset"`
	ErrorCode *int    `json:"error_code"` // 1: permanent, 2: try again
	Error     *string `json:"error"`
}

// RestError is an error of this part of the API.
type RestError struct {
	ErrorCode int    `json:"error_code"`
	Message   string `json:"message"`
}

func (s *Server) restRoutes() []route {
	const does = "Kafka REST Proxy v2: store records, at most 100000; the answer leaves when they are on disk"
	return []route{
		{method: http.MethodPost, path: "/topics/{topic}", does: does, in: RestRecords{}, out: RestOffsets{}, contentType: restAnswer, handle: s.restProduce},
		{method: http.MethodPost, path: "/topics/{topic}/partitions/{partition}", does: does, in: RestRecords{}, out: RestOffsets{}, contentType: restAnswer, handle: s.restProduce},
	}
}

func (s *Server) restProduce(w http.ResponseWriter, r *http.Request) error {
	out, err := s.restStore(w, r)
	body, status := any(out), http.StatusOK
	if err != nil {
		status = statusOf(err)
		body = RestError{restCode(err, status), err.Error()}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", restAnswer)
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that is gone needs no answer
	return nil
}

// restCode is REST Proxy's number for an error.
func restCode(err error, status int) int {
	switch {
	case errors.Is(err, edge.ErrNoTopic):
		return 40401
	case status == http.StatusNotFound:
		return 40402 // a partition
	case status == http.StatusBadRequest:
		return 42201 // what the records hold
	case status == http.StatusInternalServerError:
		return 50002
	}
	return status
}

func (s *Server) restStore(w http.ResponseWriter, r *http.Request) (RestOffsets, error) {
	var none RestOffsets
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != restBinary && media != restJSON {
		return none, &requestError{http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want %s or %s", r.Header.Get("Content-Type"), restBinary, restJSON)}
	}
	t, err := s.topic(r, edge.OpWrite)
	if err != nil {
		return none, err
	}
	in, err := readRecords[RestRecord](w, r, false)
	if err != nil {
		return none, err
	}
	if len(in) == 0 {
		return none, &requestError{http.StatusUnprocessableEntity, errors.New("no records")}
	}
	records := make([]NewRecord, len(in))
	for i, rec := range in {
		if records[i], err = rec.decode(media == restBinary); err != nil {
			return none, badRequest("record %d: %w", i, err)
		}
		if p := r.PathValue("partition"); p != "" {
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil || n < 0 || int(n) >= len(t.Partitions) {
				return none, notFound("topic %s has no partition %s", t.Name, p)
			}
			index := int32(n)
			records[i].Partition = &index
		}
	}
	stored, err := s.store(r.Context(), principal(r), t, records)
	if err != nil {
		return none, err
	}
	out := RestOffsets{Offsets: make([]RestOffset, len(stored.Records))}
	for i := range stored.Records {
		p := &stored.Records[i]
		if p.Error != "" {
			permanent := 1
			out.Offsets[i] = RestOffset{ErrorCode: &permanent, Error: &p.Error}
			continue
		}
		out.Offsets[i] = RestOffset{Partition: &p.Partition, Offset: &p.Offset}
	}
	return out, nil
}

func (rec RestRecord) decode(binary bool) (out NewRecord, err error) {
	out.Partition = rec.Partition
	if out.Key, err = restData(rec.Key, binary); err != nil {
		return out, fmt.Errorf("key: %w", err)
	}
	if out.Value, err = restData(rec.Value, binary); err != nil {
		return out, fmt.Errorf("value: %w", err)
	}
	return out, nil
}

func restData(raw json.RawMessage, binary bool) (Data, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if !binary {
		return Data(raw), nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, errors.New("want base64 text")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if data == nil {
		data = []byte{}
	}
	return data, err
}
