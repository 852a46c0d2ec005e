package http

import (
	"net/http"
	"time"

	"rivulet/edge"
)

// Broker is the broker itself.
type Broker struct {
	Edge       string            `json:"edge"`
	Version    string            `json:"version"`
	Generation string            `json:"generation"`
	Started    time.Time         `json:"started"`
	Ready      bool              `json:"ready"`
	Addresses  map[string]string `json:"addresses"`
	Counters   edge.Counters     `json:"counters"`
	Store      Store             `json:"store"`
	Damage     []Damage          `json:"damage,omitempty"`
	Scrub      Scrub             `json:"scrub"`
}

// Scrub is the background check of everything that is stored.
type Scrub struct {
	LastPass *time.Time `json:"last_pass"` // when everything had been read last; null: not yet
	Running  bool       `json:"running"`
	Bytes    uint64     `json:"bytes"` // read since the broker's start
	Passes   uint64     `json:"passes"`
}

// Damage is something that was set aside when the store was opened, or that was found damaged since.
type Damage struct {
	File   string `json:"file"`
	Topic  string `json:"topic,omitempty"`
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// Store are the store's figures since it was opened.
type Store struct {
	Frames          uint64            `json:"frames"`
	Records         uint64            `json:"records"`
	RawBytes        uint64            `json:"raw_bytes"`
	JournalBytes    uint64            `json:"journal_bytes"`
	SealedBytes     uint64            `json:"sealed_bytes"`
	CopiedBytes     uint64            `json:"copied_bytes"` // log files copied forward, merged and compacted
	CheckpointBytes uint64            `json:"checkpoint_bytes"`
	TailBytes       int64             `json:"tail_bytes"`
	TailLimit       int64             `json:"tail_limit"`
	ReadOnly        bool              `json:"read_only"`
	Full            bool              `json:"full"`
	FullReason      string            `json:"full_reason,omitempty"`
	DiskBytes       int64             `json:"disk_bytes"`                // that the data directory takes, in whole blocks
	BudgetBytes     int64             `json:"budget_bytes,omitempty"`    // storage.max_bytes
	WrittenBytes    uint64            `json:"written_bytes"`             // to the disk: journal, log, checkpoints and making files ready
	Dropped         map[string]uint64 `json:"dropped_records,omitempty"` // since its start, by reason, of all topics
	SyncP50         float64           `json:"sync_p50_seconds"`
	SyncP99         float64           `json:"sync_p99_seconds"`
}

func (s *Server) brokerRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/broker", does: "the broker, its addresses and figures", out: Broker{}, handle: s.getBroker},
	}
}

func (s *Server) getBroker(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpClusterDescribe, ""); err != nil {
		return err
	}
	b := Broker{
		Edge: s.broker.Edge(), Version: s.o.Version, Generation: s.broker.Store().Generation().ID, Started: s.started.UTC(),
		Ready: s.ready.Load(), Addresses: s.o.Addresses, Counters: s.broker.Counters(), Store: s.storeFigures(),
	}
	for _, p := range s.broker.Store().Problems() {
		b.Damage = append(b.Damage, Damage(p))
	}
	sc := s.broker.Store().Scrub()
	b.Scrub = Scrub{Running: sc.Running, Bytes: sc.Bytes, Passes: sc.Passes}
	if !sc.LastPass.IsZero() {
		at := sc.LastPass.UTC()
		b.Scrub.LastPass = &at
	}
	return answer(w, http.StatusOK, b)
}

func (s *Server) storeFigures() Store {
	st := s.broker.Store().Stats()
	dropped := map[string]uint64{}
	for _, d := range s.broker.Store().Dropped() {
		dropped[string(d.Reason)] += d.Records
	}
	return Store{
		Dropped: dropped,
		Frames:  st.Frames, Records: st.Records, RawBytes: st.RawBytes, JournalBytes: st.JournalBytes, SealedBytes: st.SealedBytes, CopiedBytes: st.CopiedBytes,
		CheckpointBytes: st.CheckpointBytes, TailBytes: st.TailBytes, TailLimit: st.TailLimit, ReadOnly: st.ReadOnly, Full: st.Full,
		FullReason: st.FullReason, DiskBytes: st.DiskBytes, BudgetBytes: st.BudgetBytes, WrittenBytes: st.WrittenBytes(),
		SyncP50: quantile(st.Sync.Buckets[:], st.Sync.Count, 0.5), SyncP99: quantile(st.Sync.Buckets[:], st.Sync.Count, 0.99),
	}
}

// quantile is the upper bound, in seconds, of the bucket that holds it; bucket i counts what took less than 2^i µs.
func quantile(buckets []uint64, count uint64, q float64) float64 {
	rank, seen := uint64(q*float64(count)), uint64(0)
	for i, n := range buckets {
		if seen += n; seen > rank {
			return float64(uint64(1)<<i) / 1e6
		}
	}
	return 0
}
