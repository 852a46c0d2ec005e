package auth

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"rivulet/edge"
)

// Event is one line of the audit log: who did, or was kept from doing, what, and from where.
type Event struct {
	At       time.Time `json:"at"`
	Who      string    `json:"who"` // user, @owner, anonymous; of a failed login, the name that was claimed
	From     string    `json:"from"`
	Client   string    `json:"client,omitempty"`
	Protocol string    `json:"protocol,omitempty"`
	What     string    `json:"what"` // login, or an operation
	Resource string    `json:"resource,omitempty"`
	Allowed  bool      `json:"allowed"`
	Detail   string    `json:"detail,omitempty"`
	// Suppressed is how many events were left out before this one, since there were too many.
	Suppressed uint64 `json:"suppressed,omitempty"`
}

// Bounds of the audit log: a flood of failures must not fill the disk. Beyond burst events there are rate a second, and a count
// of what was left out. Administration and what it changed is never left out.
const (
	auditRate  = 10
	auditBurst = 200
	maxEvent   = 1024 // bytes of one text in an event
	auditQueue = 1024
)

// audit takes events from anywhere, without waiting.
type audit struct {
	log *slog.Logger
	now func() time.Time

	mu         sync.Mutex // guards what follows
	free       float64
	at         time.Time
	suppressed uint64
	recent     map[string]time.Time // logins over HTTP, of which each request brings one
	queue      chan Event           // nil until Start
}

func newAudit(log *slog.Logger, now func() time.Time) *audit {
	return &audit{log: log, now: now, free: auditBurst}
}

// Record adds to the audit log. Front ends call it for administration that they carried out: topics made and deleted, plugins,
// offsets; logins, refusals, and changes of users and rules are recorded here.
func (a *Authority) Record(e Event) { a.audit.record(e) }

func (u *audit) record(e Event) {
	e.At = u.now()
	e.Who, e.Resource, e.Detail, e.Client = clip(e.Who), clip(e.Resource), clip(e.Detail), clip(e.Client)
	ordinary := e.What == "login" || !e.Allowed
	u.mu.Lock()
	if e.What == "login" && e.Allowed && e.Protocol == "http" && u.repeated(e) {
		u.mu.Unlock()
		return
	}
	if ordinary {
		if d := e.At.Sub(u.at); d > 0 {
			u.free = min(u.free+d.Seconds()*auditRate, auditBurst)
		}
		u.at = e.At
		if u.free < 1 {
			u.suppressed++
			u.mu.Unlock()
			return
		}
		u.free--
	}
	e.Suppressed, u.suppressed = u.suppressed, 0
	if u.queue != nil {
		select {
		case u.queue <- e:
		default: // the store takes nothing now; the log has it
			u.suppressed++
		}
	}
	u.mu.Unlock()
	level := slog.LevelInfo
	if !e.Allowed {
		level = slog.LevelWarn
	}
	u.log.LogAttrs(context.Background(), level, "audit", slog.String("who", e.Who), slog.String("from", e.From), slog.String("client", e.Client),
		slog.String("protocol", e.Protocol), slog.String("what", e.What), slog.String("resource", e.Resource), slog.Bool("allowed", e.Allowed),
		slog.String("detail", e.Detail), slog.Uint64("suppressed", e.Suppressed))
}

// Bounds of what is remembered of HTTP's logins.
const (
	repeatAfter = 10 * time.Minute
	maxRecent   = 1024
)

// repeated reports whether the same user logged in from the same host a moment ago. u.mu is held.
func (u *audit) repeated(e Event) bool {
	key := addrOf(e.From).String() + "\x00" + e.Resource + "\x00" + e.Who
	if at, ok := u.recent[key]; ok && e.At.Sub(at) < repeatAfter {
		return true
	}
	if len(u.recent) >= maxRecent || u.recent == nil {
		u.recent = map[string]time.Time{}
	}
	u.recent[key] = e.At
	return false
}

func clip(s string) string { return s[:min(len(s), maxEvent)] }

// Who names a principal in the audit log and in errors. No user can be called as the two that are no users.
func Who(p *edge.Principal) string {
	switch {
	case p.Super:
		return "@owner"
	case p.Name == "":
		return AnonymousName
	}
	return p.Name
}

// Writer takes encoded events; it blocks until they are durable.
type Writer func(ctx context.Context, events [][]byte) error

// Start writes events to w until ctx ends, and then what is queued. It returns when that is done.
func (a *Authority) Start(ctx context.Context, w Writer) {
	queue := make(chan Event, auditQueue)
	a.audit.mu.Lock()
	a.audit.queue = queue
	a.audit.mu.Unlock()
	for ended := false; !ended; {
		var batch [][]byte
		select {
		case e := <-queue:
			batch = append(batch, e.encode())
		case <-ctx.Done():
			a.audit.mu.Lock()
			a.audit.queue = nil
			a.audit.mu.Unlock()
			ended = true
		}
		for more := true; more && len(batch) < auditQueue; {
			select {
			case e := <-queue:
				batch = append(batch, e.encode())
			default:
				more = false
			}
		}
		if len(batch) == 0 {
			continue
		}
		if err := w(context.WithoutCancel(ctx), batch); err != nil {
			a.log.Error("cannot write the audit topic", "events", len(batch), "err", err)
		}
	}
}

func (e Event) encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("BUG: encode audit event: " + err.Error()) // of texts, numbers and a time
	}
	return b
}
