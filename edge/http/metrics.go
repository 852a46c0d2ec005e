package http

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"rivulet/edge"
)

func (s *Server) metricsRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/metrics", does: "figures for Prometheus", contentType: "text/plain", handle: s.writeMetrics},
	}
}

// page is one scrape, in Prometheus' text format. It is written by hand, since the figures are the broker's own and the usual
// libraries log at their start, which every verb of the program would show. The lines of one name stand together.
type page struct {
	families []*family
	byName   map[string]*family
}

type family struct {
	name, kind string
	lines      bytes.Buffer
}

func (p *page) family(name, kind string) *family {
	f := p.byName[name]
	if f == nil {
		f = &family{name: name, kind: kind}
		p.byName[name] = f
		p.families = append(p.families, f)
	}
	return f
}

func (f *family) line(suffix, value string, labels []string) {
	fmt.Fprintf(&f.lines, "%s%s%s %s\n", f.name, suffix, labelled(labels), value)
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (p *page) counter(name string, v uint64, labels ...string) {
	p.family(name, "counter").line("", strconv.FormatUint(v, 10), labels)
}

func (p *page) gauge(name string, v float64, labels ...string) {
	p.family(name, "gauge").line("", decimal(v), labels)
}

// histogram writes counts in powers of two of 1 µs: buckets[i] holds those below 2^i µs.
func (p *page) histogram(name string, buckets []uint64, sum float64, labels ...string) {
	f := p.family(name, "histogram")
	with := func(le string) []string { return append(slices.Clip(labels), "le", le) }
	seen := uint64(0)
	for i, n := range buckets {
		seen += n
		f.line("_bucket", strconv.FormatUint(seen, 10), with(decimal(float64(uint64(1)<<i)/1e6)))
	}
	f.line("_bucket", strconv.FormatUint(seen, 10), with("+Inf"))
	f.line("_sum", decimal(sum), labels)
	f.line("_count", strconv.FormatUint(seen, 10), labels)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labelled writes pairs of names and values.
func labelled(pairs []string) string {
	if len(pairs) == 0 {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&b, `%s%s="%s"`, sep, pairs[i], labelEscapes.Replace(pairs[i+1]))
	}
	return b.String() + "}"
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) writeMetrics(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpClusterDescribe, ""); err != nil {
		return err
	}
	p := page{byName: map[string]*family{}}
	c := s.broker.Counters()
	p.counter("rivulet_messages_in_total", c.MessagesIn)
	p.counter("rivulet_bytes_in_total", c.BytesIn)
	p.counter("rivulet_messages_out_total", c.MessagesOut)
	p.counter("rivulet_bytes_out_total", c.BytesOut)
	if s.o.Auth != nil {
		a := s.o.Auth.Stats()
		p.counter("rivulet_logins_total", a.Logins, "outcome", "ok")
		p.counter("rivulet_logins_total", a.Failed, "outcome", "failed")
		p.counter("rivulet_logins_total", a.Throttled, "outcome", "throttled")
		p.counter("rivulet_denied_total", a.Denied)
		p.gauge("rivulet_users", float64(a.Users))
		p.gauge("rivulet_acl_rules", float64(a.Rules))
	}
	p.gauge("rivulet_ready", truth(s.ready.Load()))
	p.gauge("rivulet_info", 1, "version", s.o.Version, "edge", s.broker.Edge())
	s.storeMetrics(&p)
	s.topicMetrics(&p)
	s.pluginMetrics(&p)
	s.uplinkMetrics(&p)
	s.bridgeMetrics(&p)
	s.mqttMetrics(&p)
	s.gateMetrics(&p)
	s.requestMetrics(&p)
	processMetrics(&p)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, f := range p.families {
		_, _ = fmt.Fprintf(w, "# TYPE %s %s\n%s", f.name, f.kind, f.lines.Bytes()) // a scraper that is gone asks again
	}
	return nil
}

func (s *Server) storeMetrics(p *page) {
	st := s.broker.Store().Stats()
	p.counter("rivulet_store_frames_total", st.Frames)
	p.counter("rivulet_store_records_total", st.Records)
	p.counter("rivulet_store_raw_bytes_total", st.RawBytes)
	p.counter("rivulet_store_journal_bytes_total", st.JournalBytes)
	p.counter("rivulet_store_sealed_bytes_total", st.SealedBytes)
	p.counter("rivulet_store_copied_bytes_total", st.CopiedBytes)
	p.counter("rivulet_store_checkpoint_bytes_total", st.CheckpointBytes)
	p.counter("rivulet_store_prepared_bytes_total", st.PreparedBytes)
	p.counter("rivulet_store_written_bytes_total", st.WrittenBytes())
	if st.RawBytes > 0 {
		p.gauge("rivulet_store_written_per_raw_byte", float64(st.WrittenBytes()-st.PreparedBytes)/float64(st.RawBytes)) // journal files are made once
	}
	p.gauge("rivulet_store_disk_bytes", float64(st.DiskBytes))
	p.gauge("rivulet_store_budget_bytes", float64(st.BudgetBytes))
	p.gauge("rivulet_store_tail_bytes", float64(st.TailBytes))
	p.gauge("rivulet_store_tail_limit_bytes", float64(st.TailLimit))
	p.gauge("rivulet_store_queue_bytes", float64(st.QueueBytes))
	p.gauge("rivulet_store_read_only", truth(st.ReadOnly))
	p.gauge("rivulet_store_full", truth(st.Full))
	s.damageMetrics(p)
	p.histogram("rivulet_store_sync_duration_seconds", st.Sync.Buckets[:], st.Sync.Sum.Seconds())
}

// damageMetrics: rivulet_store_damages is what an alarm goes by; the rest says what is lost, and whether the scrub comes round.
func (s *Server) damageMetrics(p *page) {
	store := s.broker.Store()
	p.gauge("rivulet_store_damages", float64(len(store.Problems())))
	lost := map[string]int64{}
	for _, t := range store.Topics() {
		lost[t.Name] = 0
	}
	for _, d := range store.Damages() {
		lost[d.Topic] += d.Next - d.First
	}
	for _, topic := range slices.Sorted(maps.Keys(lost)) {
		p.gauge("rivulet_topic_damaged_records", float64(lost[topic]), "topic", topic)
	}
	sc := store.Scrub()
	last := 0.0
	if !sc.LastPass.IsZero() {
		last = float64(sc.LastPass.UnixMilli()) / 1e3
	}
	p.gauge("rivulet_scrub_last_pass_timestamp_seconds", last)
	p.gauge("rivulet_scrub_running", truth(sc.Running))
	p.counter("rivulet_scrub_bytes_total", sc.Bytes)
}

func (s *Server) topicMetrics(p *page) {
	for _, d := range s.broker.Store().Dropped() {
		p.counter("rivulet_topic_dropped_records_total", d.Records, "topic", d.Topic, "reason", string(d.Reason))
	}
	for _, t := range s.broker.Store().Topics() {
		d := describeTopic(t)
		p.gauge("rivulet_topic_partitions", float64(len(d.Partitions)), "topic", d.Name)
		p.gauge("rivulet_topic_records", float64(d.Records), "topic", d.Name)
		p.counter("rivulet_topic_raw_bytes_total", uint64(d.RawBytes), "topic", d.Name)
		p.gauge("rivulet_topic_tail_bytes", float64(d.TailBytes), "topic", d.Name)
		p.gauge("rivulet_topic_stored_bytes", float64(d.StoredBytes), "topic", d.Name)
	}
}

func (s *Server) pluginMetrics(p *page) {
	for _, a := range s.broker.Attachments() {
		l := []string{"plugin", a.Plugin, "topic", a.Topic}
		p.counter("rivulet_plugin_records_in_total", a.Stats.In, l...)
		p.counter("rivulet_plugin_records_out_total", a.Stats.Out, l...)
		p.counter("rivulet_plugin_records_dropped_total", a.Stats.Dropped, l...)
		p.counter("rivulet_plugin_records_dead_lettered_total", a.Stats.Dead, l...)
		p.counter("rivulet_plugin_records_rejected_total", a.Stats.Rejected, l...)
		p.counter("rivulet_plugin_errors_total", a.Stats.Errors, l...)
		p.counter("rivulet_plugin_restarts_total", a.Stats.Restarts, l...)
		p.counter("rivulet_plugin_fuel_total", a.Stats.FuelUsed, l...)
		p.counter("rivulet_plugin_nanoseconds_total", a.Stats.Nanos, l...)
		p.gauge("rivulet_plugin_memory_bytes", float64(a.Stats.MemoryBytes), l...)
		p.gauge("rivulet_plugin_running", truth(a.Stats.State == "running"), l...)
	}
}

func (s *Server) uplinkMetrics(p *page) {
	for _, u := range all(s.o.Uplinks) {
		p.gauge("rivulet_uplink_lag_records", float64(u.Figures.Lag), "uplink", u.Name)
		p.gauge("rivulet_uplink_running", truth(u.Figures.State == "running"), "uplink", u.Name)
		p.counter("rivulet_uplink_transactions_total", u.Figures.Txns, "uplink", u.Name)
		p.counter("rivulet_uplink_transactions_aborted_total", u.Figures.Aborted, "uplink", u.Name)
		p.counter("rivulet_uplink_records_total", u.Figures.Records, "uplink", u.Name)
		p.counter("rivulet_uplink_bytes_total", u.Figures.Bytes, "uplink", u.Name)
		p.counter("rivulet_uplink_gap_records_total", u.Figures.Gaps, "uplink", u.Name)
		p.counter("rivulet_uplink_dead_lettered_total", u.Figures.DeadLettered, "uplink", u.Name)
	}
}
