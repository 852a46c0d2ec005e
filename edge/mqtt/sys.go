package mqtt

import (
	"fmt"
	"maps"
	"math"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// sysPrefix begins the topics of the broker's own figures, as in Mosquitto. They are never logged: a new subscription gets the
// present values, as retained messages, and from then on what changed, every Options.SysInterval.
const sysPrefix = "$SYS/"

// sysTopics are those figures. Without subscribers of $SYS they cost a few counters every interval.
type sysTopics struct {
	mu     sync.Mutex // guards what follows
	loads  []*load
	values map[string]string
	shown  time.Time // when they were taken
	most   int       // clients that were connected at once
}

// load is a rate, as the moving averages of it over 1, 5 and 15 minutes, per minute, as Mosquitto reckons them.
type load struct {
	topic string
	count func(*Stats) uint64
	last  uint64
	avg   [3]float64
}

var loadMinutes = [3]int{1, 5, 15}

func newLoads() []*load {
	return []*load{
		{topic: "messages/received", count: func(s *Stats) uint64 { return s.PacketsIn }},
		{topic: "messages/sent", count: func(s *Stats) uint64 { return s.PacketsOut }},
		{topic: "publish/received", count: func(s *Stats) uint64 { return s.Published }},
		{topic: "publish/sent", count: func(s *Stats) uint64 { return s.Delivered }},
		{topic: "publish/dropped", count: func(s *Stats) uint64 { return s.dropped() }},
		{topic: "bytes/received", count: func(s *Stats) uint64 { return s.BytesIn }},
		{topic: "bytes/sent", count: func(s *Stats) uint64 { return s.BytesOut }},
		{topic: "sockets", count: func(s *Stats) uint64 { return s.Accepted }},
		{topic: "connections", count: func(s *Stats) uint64 { return s.Logins }},
	}
}

// dropped are messages that were not delivered, or not taken.
func (s *Stats) dropped() uint64 { return s.LiveDropped + s.Oversize + s.RefusedFull }

// tick adds what was counted in an interval.
func (l *load) tick(now uint64, interval time.Duration) {
	perMinute := float64(now-l.last) / interval.Minutes()
	l.last = now
	for i, minutes := range loadMinutes {
		keep := math.Exp(-interval.Minutes() / float64(minutes))
		l.avg[i] = perMinute + keep*(l.avg[i]-perMinute)
	}
}

// sysLoop publishes the figures.
func (s *Server) sysLoop() {
	tick := time.NewTicker(s.o.SysInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.publishSys()
		case <-s.stop:
			return
		}
	}
}

// publishSys takes the figures and delivers those that changed.
func (s *Server) publishSys() {
	st := s.Stats()
	s.sys.mu.Lock()
	s.sys.most = max(s.sys.most, st.Clients)
	for _, l := range s.sys.loads {
		l.tick(l.count(&st), s.o.SysInterval)
	}
	s.sys.mu.Unlock()
	if !s.tree.holds(strings.TrimSuffix(sysPrefix, "/")) {
		return
	}
	before, values, now := s.takeSys()
	var msgs []edge.LiveMessage
	for _, topic := range slices.Sorted(maps.Keys(values)) {
		if before[topic] != values[topic] {
			msgs = append(msgs, edge.LiveMessage{Topic: topic, Record: sysRecord(values[topic], now)})
		}
	}
	s.deliverLive(s.ctx, msgs)
}

// takeSys takes the figures; before are those of the last time.
func (s *Server) takeSys() (before, values map[string]string, now time.Time) {
	st := s.Stats()
	kept := s.keptSessions()
	now = s.o.Now()
	s.sys.mu.Lock()
	defer s.sys.mu.Unlock()
	before, values = s.sys.values, s.sysValues(&st, kept, now)
	s.sys.values, s.sys.shown = values, now
	return before, values, now
}

func sysRecord(value string, at time.Time) batch.Record {
	return batch.Record{Timestamp: at.UnixMilli(), Payload: batch.AppendPayload(nil, nil, []byte(value), nil)}
}

// sysValues are the figures by topic. It is called with sys.mu held.
func (s *Server) sysValues(st *Stats, kept int, now time.Time) map[string]string {
	v := map[string]string{}
	put := func(topic, value string) { v[sysPrefix+"broker/"+topic] = value }
	number := func(topic string, n uint64) { put(topic, strconv.FormatUint(n, 10)) }
	put("version", "rivulet "+s.o.Version)
	put("uptime", fmt.Sprintf("%d seconds", int(now.Sub(s.began).Seconds())))

	c, connected := s.broker.Counters(), st.Clients
	s.sys.most = max(s.sys.most, connected)
	number("clients/connected", uint64(connected))
	number("clients/active", uint64(connected))
	number("clients/disconnected", uint64(kept))
	number("clients/inactive", uint64(kept))
	number("clients/total", uint64(connected+kept))
	number("clients/maximum", uint64(s.sys.most))
	number("clients/expired", st.SessionsExpired)

	number("messages/received", st.PacketsIn)
	number("messages/sent", st.PacketsOut)
	number("publish/messages/received", st.Published)
	number("publish/messages/sent", st.Delivered)
	number("publish/messages/dropped", st.dropped())
	number("publish/bytes/received", c.BytesIn)
	number("publish/bytes/sent", c.BytesOut)
	number("bytes/received", st.BytesIn)
	number("bytes/sent", st.BytesOut)

	retained, bytes, _ := s.broker.RetainedCount()
	number("retained messages/count", uint64(retained))
	number("store/messages/count", uint64(retained)) // Mosquitto's store is what it would deliver again; sessions here have no copies
	number("messages/stored", uint64(retained))
	number("store/messages/bytes", uint64(bytes))
	number("subscriptions/count", uint64(st.Subscriptions))
	number("shared_subscriptions/count", uint64(st.Shares))

	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	number("heap/current", sample[0].Value.Uint64())

	for _, l := range s.sys.loads {
		for i, minutes := range loadMinutes {
			put(fmt.Sprintf("load/%s/%dmin", l.topic, minutes), strconv.FormatFloat(l.avg[i], 'f', 2, 64))
		}
	}
	return v
}

// keptSessions is how many sessions wait for their clients.
func (s *Server) keptSessions() (n int) {
	err := s.broker.Store().Scan(sessionSpace, "", func(id string, _ []byte) bool {
		s.mu.Lock()
		if s.clients[id] == nil {
			n++
		}
		s.mu.Unlock()
		return true
	})
	if err != nil {
		s.log.Error("cannot count MQTT sessions", "err", err)
	}
	return n
}

// sysRetained lists what a new subscription gets of the figures.
func (s *Server) sysRetained(sub *subscription) (copies []retainedCopy) {
	if !strings.HasPrefix(sub.filter, sysPrefix) {
		return nil
	}
	_, values, _ := s.takeSys()
	for _, topic := range slices.Sorted(maps.Keys(values)) {
		if matches(sub.filter, []byte(topic)) {
			copies = append(copies, retainedCopy{topic, sub})
		}
	}
	return copies
}

// sysCopy is one figure as a retained message; it has no payload when there is none.
func (s *Server) sysCopy(topic string) (r batch.Record) {
	s.sys.mu.Lock()
	defer s.sys.mu.Unlock()
	if value, ok := s.sys.values[topic]; ok {
		r = sysRecord(value, s.sys.shown)
	}
	return r
}

// holds reports whether some filter begins with the level.
func (t *tree) holds(level string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.root.children[level] != nil
}
