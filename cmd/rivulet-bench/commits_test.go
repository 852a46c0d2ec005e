package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func metricsPage(t *testing.T, counts ...int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "# TYPE rivulet_store_sync_duration_seconds histogram")
		for i, n := range counts {
			le := fmt.Sprint(float64(uint64(64)<<i) / 1e6)
			if i == len(counts)-1 {
				le = "+Inf"
			}
			fmt.Fprintf(w, "%s{le=%q} %d\n", syncMetric, le, n)
		}
		fmt.Fprintln(w, "rivulet_store_sync_duration_seconds_sum 1.5")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestCommits: only what came between the two looks counts, and a quantile lies in its bucket.
func TestCommits(t *testing.T) {
	early, err := readCommits(t.Context(), metricsPage(t, 0, 10, 10, 10))
	if err != nil {
		t.Fatal(err)
	}
	late, err := readCommits(t.Context(), metricsPage(t, 50, 60, 110, 110))
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[float64]time.Duration{0.25: 32 * time.Microsecond, 0.75: 192 * time.Microsecond, 1: 256 * time.Microsecond} {
		if got := late.quantile(q, early); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := early.quantile(0.99, early); got != 0 {
		t.Errorf("of none it is %v", got)
	}
	if _, err := readCommits(t.Context(), metricsPage(t)); err == nil {
		t.Error("a page without the metric is no error")
	}
}

func TestCommitGoal(t *testing.T) {
	for _, c := range []struct {
		p99, commit time.Duration
		want        string
	}{
		{1500 * time.Microsecond, 250 * time.Microsecond, "0.25 ms: yes"},
		{1501 * time.Microsecond, 250 * time.Microsecond, "0.25 ms: no"},
		{time.Millisecond, 0, "–"},
	} {
		if got := commitGoal(result{P99: c.p99, Commit: c.commit}); got != c.want {
			t.Errorf("p99 %v, commit %v: %q, want %q", c.p99, c.commit, got, c.want)
		}
	}
}
