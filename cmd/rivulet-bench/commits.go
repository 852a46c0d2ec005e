package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// commits counts the fdatasyncs of a running rivulet by how long they took, as its metrics tell: below[i] took at most upTo[i].
type commits struct {
	upTo  []time.Duration
	below []float64
}

const syncMetric = "rivulet_store_sync_duration_seconds_bucket"

// readCommits asks the broker whose HTTP listener is at addr.
func readCommits(ctx context.Context, addr string) (c commits, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return c, fmt.Errorf("ask for metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, fmt.Errorf("ask for metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("ask for metrics: %s", resp.Status)
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		le, ok := strings.CutPrefix(lines.Text(), syncMetric+`{le="`)
		if !ok {
			continue
		}
		le, count, _ := strings.Cut(le, `"} `)
		seconds, err1 := strconv.ParseFloat(le, 64)
		n, err2 := strconv.ParseFloat(count, 64)
		if err1 != nil || err2 != nil {
			return c, fmt.Errorf("read metrics: %s", lines.Text())
		}
		c.upTo = append(c.upTo, time.Duration(min(seconds, 1e6)*1e9))
		c.below = append(c.below, n)
	}
	if len(c.upTo) == 0 {
		return c, fmt.Errorf("read metrics: there is no %s", syncMetric)
	}
	return c, nil
}

// quantile of those since an earlier state, taken to be spread evenly over their bucket, as Prometheus does.
func (c commits) quantile(q float64, since commits) time.Duration {
	n := func(i int) float64 {
		if i < 0 {
			return 0
		}
		if i < len(since.below) {
			return c.below[i] - since.below[i]
		}
		return c.below[i]
	}
	rank := q * n(len(c.below)-1)
	for i := range c.below {
		if n(i) < rank || n(i) == 0 {
			continue
		}
		from := time.Duration(0)
		if i > 0 {
			from = c.upTo[i-1]
		}
		part := (rank - n(i-1)) / (n(i) - n(i-1))
		return from + time.Duration(part*float64(c.upTo[i]-from))
	}
	return 0
}
