package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// events is one stream of server-sent events.
type events struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func openEvents(w http.ResponseWriter) (*events, error) {
	e := &events{w: w, rc: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := e.rc.Flush(); err != nil {
		return nil, fmt.Errorf("open event stream: %w", err)
	}
	return e, nil
}

// writeTimeout ends a stream whose client has stopped reading.
const writeTimeout = 10 * time.Second

// send writes one event; the error means that the client is gone.
func (e *events) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if err := e.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := fmt.Fprintf(e.w, "data: %s\n\n", data); err != nil {
		return err
	}
	return e.rc.Flush()
}
