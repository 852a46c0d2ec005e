package http

import (
	"context"
	"net/http"
	"testing"

	"rivulet/storage"
)

// A backup over HTTP is whole; one whose reader goes away is noticed by neither the store nor the next one.
func TestBackup(t *testing.T) {
	h := newHarness(t)
	h.do(http.MethodPost, "/v1/topics", map[string]any{"name": "a", "partitions": 1}, http.StatusCreated, nil)
	for round := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/v1/backup", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			cancel()
		}
		m, err := storage.VerifyBackup(resp.Body, nil)
		if round != 1 && (err != nil || m.Files < 2 || m.Seq == 0 || resp.StatusCode != http.StatusOK) {
			t.Fatal(resp.Status, m, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}
