package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// NewRecord is one record to store.
type NewRecord struct {
	Key       Data    `json:"key,omitempty"`
	Value     Data    `json:"value"`
	Headers   Headers `json:"headers,omitempty"`
	Partition *int32  `json:"partition,omitempty"` // default: by key, else in turn
	Timestamp int64   `json:"timestamp,omitempty"` // ms; default now
}

// Header is one header of a record.
type Header struct {
	Key   string `json:"key"`
	Value Data   `json:"value"`
}

// Headers are a record's, at most maxHeaders.
type Headers []Header

// UnmarshalJSON decodes one after the other: many empty ones would take far more memory than their text.
func (h *Headers) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	*h = nil
	if open, err := d.Token(); open == nil || err != nil {
		return err
	} else if open != json.Delim('[') {
		return errors.New("headers: want an array")
	}
	for d.More() {
		if len(*h) == maxHeaders {
			return fmt.Errorf("headers: more than %d", maxHeaders)
		}
		var one Header
		if err := d.Decode(&one); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		*h = append(*h, one)
	}
	return nil
}

// NewRecords is the body that stores records: all of them in one commit, or none.
type NewRecords struct {
	Records []NewRecord `json:"records"`
}

// Stored says where records went.
type Stored struct {
	Records []Placed `json:"records"`
}

// Placed is where one record went.
type Placed struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // -1: a plugin dropped it or sent it elsewhere
	Error     string `json:"error,omitempty"`
}

// Bounds of the body of records.
const (
	maxRecords     = 32 << 20 // bytes
	maxRecordCount = 100_000
	maxHeaders     = 1000 // of one record
)

// store commits records and waits for the disk.
func (s *Server) store(ctx context.Context, p *edge.Principal, t *edge.Topic, records []NewRecord) (Stored, error) {
	if edge.Internal(t.Name) {
		return Stored{}, fmt.Errorf("topic %s: %w", t.Name, edge.ErrInternal)
	}
	done := make(chan struct{})
	in := &edge.Ingest{Principal: p, Items: make([]edge.Item, len(records)), Done: func(*edge.Ingest) { close(done) }}
	for i, rec := range records {
		headers := make([]batch.KV, len(rec.Headers))
		for j, h := range rec.Headers {
			headers[j] = batch.KV{Key: h.Key, Value: h.Value}
		}
		it := edge.Item{Topic: t, Partition: -1, Record: batch.Record{
			Timestamp: rec.Timestamp, Payload: batch.AppendPayload(nil, rec.Key, rec.Value, headers),
		}}
		if rec.Timestamp < 0 {
			return Stored{}, badRequest("record %d: timestamp %d: want milliseconds since 1970", i, rec.Timestamp)
		}
		if rec.Partition != nil {
			it.Partition = *rec.Partition
			if it.Partition < 0 || int(it.Partition) >= len(t.Partitions) {
				return Stored{}, badRequest("topic %s has no partition %d", t.Name, it.Partition)
			}
		}
		in.Items[i] = it
	}
	if err := s.broker.Ingest(ctx, in); err != nil {
		return Stored{}, err
	}
	<-done // the records are the broker's until then, also when the client is gone
	if in.Err != nil {
		return Stored{}, in.Err
	}
	out := Stored{Records: make([]Placed, len(in.Items))}
	for i := range in.Items {
		it := &in.Items[i]
		out.Records[i] = Placed{Partition: it.Placed, Offset: it.Base}
		if it.Err != nil {
			out.Records[i].Error = it.Err.Error()
		}
	}
	return out, nil
}

func (s *Server) produce(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpWrite)
	if err != nil {
		return err
	}
	in, err := readRecords[NewRecord](w, r, true)
	if err != nil {
		return err
	}
	if len(in) == 0 {
		return &requestError{http.StatusBadRequest, errors.New("no records")}
	}
	out, err := s.store(r.Context(), principal(r), t, in)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, out)
}
