package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// Problem is an error as RFC 9457 wants it.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// requestError is a request at fault.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &requestError{http.StatusNotFound, fmt.Errorf(format, args...)}
}

// statuses translate the broker's errors; the first that matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{edge.ErrNotAuthorized, http.StatusForbidden},
	{auth.ErrReadOnly, http.StatusConflict},
	{auth.ErrExists, http.StatusConflict},
	{auth.ErrNoUser, http.StatusNotFound},
	{auth.ErrNoRule, http.StatusNotFound},
	{auth.ErrInvalid, http.StatusBadRequest},
	{auth.ErrMechanism, http.StatusBadRequest},
	{edge.ErrInternal, http.StatusForbidden},
	{edge.ErrInvalidTopic, http.StatusBadRequest},
	{edge.ErrInvalidConfig, http.StatusBadRequest},
	{edge.ErrGroupName, http.StatusBadRequest},
	{edge.ErrModule, http.StatusUnprocessableEntity},
	{edge.ErrRejected, http.StatusUnprocessableEntity},
	{edge.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{edge.ErrNoTopic, http.StatusNotFound},
	{edge.ErrNoPlugin, http.StatusNotFound},
	{edge.ErrNotAttached, http.StatusNotFound},
	{edge.ErrGroupNotFound, http.StatusNotFound},
	{edge.ErrOffsetRange, http.StatusRequestedRangeNotSatisfiable},
	{edge.ErrTopicExists, http.StatusConflict},
	{edge.ErrCompacted, http.StatusConflict},
	{edge.ErrAttached, http.StatusConflict},
	{edge.ErrGroupNotEmpty, http.StatusConflict},
	{edge.ErrUnknownMember, http.StatusConflict},
	{edge.ErrFull, http.StatusInsufficientStorage},
	{edge.ErrHalted, http.StatusServiceUnavailable},
	{edge.ErrReadOnly, http.StatusServiceUnavailable},
	{edge.ErrClosed, http.StatusServiceUnavailable},
	{edge.ErrCoordinatorClosed, http.StatusServiceUnavailable},
	{context.Canceled, http.StatusServiceUnavailable}, // the client closed its side
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
}

func statusOf(err error) int {
	if bad, ok := errors.AsType[*requestError](err); ok {
		if _, ok := errors.AsType[*http.MaxBytesError](bad.err); ok {
			return http.StatusRequestEntityTooLarge
		}
		return bad.status
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// problem answers with an error, also when the client seems to be gone: it may only have closed its side, and would take an answer without a
// status for success.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	body, _ := json.Marshal(Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error()}) // four plain fields
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
