package mirror

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rivulet/edge"
)

// lane is one source partition on its way to the centre. Run's goroutine owns it; the atomics are for Status.
type lane struct {
	src      *edge.Partition
	topic    string
	index    int32
	priority atomic.Int32
	target   *target

	// scan is the next source offset to gather; position is before what the centre does not have and needs. committed is what the centre
	// knows of it, and where scan begins again after a failure; -1: nothing.
	scan      int64
	position  atomic.Int64
	committed int64

	known   bool        // position was settled with the centre in this session
	settled atomic.Bool // and in this run of the program

	shadowed int64 // what the shadow says

	skips   ranges   // dead-lettered offsets at or behind committed
	suspect *suspect // where the centre refused a batch without saying which record

	damaged int64 // offset behind the last records that were told to be damaged on this disk

	corrupt     int64 // first offset of a batch that arrived damaged at the centre,
	corruptions int   // and how often in a row

	barred   string // why the centre does not take this partition's records,
	barredAt time.Time

	gaps, dead atomic.Uint64
	blocked    atomic.Pointer[string]
}

// target is one topic of the centre.
type target struct {
	name    string
	want    int32   // partitions that the sources have
	compact bool    // a source is compacted
	leaders []int32 // by partition; -1: none now
	problem string  // why it cannot be used
	refused string  // why it was not made or grown

	awaited   bool // the centre was given time to make it whole, in vain: it is looked at without waiting from then on
	described bool // the centre told its limits
	maxBytes  int  // of one batch; what the centre said or showed
	recode    bool // the centre refused a codec other than lz4
}

// suspect is a run of source offsets in which the centre refused a batch: it is sent again in batches of at most max records.
type suspect struct {
	from, to int64
	max      int
}

// cut reports whether a batch with count records, the first at offset first, must end before offset off.
func (s *suspect) cut(count int, first, off int64) bool {
	if s == nil || count == 0 {
		return false
	}
	switch {
	case first < s.from:
		return off >= s.from
	case first >= s.to:
		return false
	}
	return off >= s.to || count >= s.max
}

// touches reports whether a batch of offsets [from, to) holds suspects.
func (s *suspect) touches(from, to int64) bool { return s != nil && from < s.to && s.from < to }

func (l *lane) block(why string) {
	if why == "" {
		l.blocked.Store(nil)
		return
	}
	l.blocked.Store(&why)
}

// bar holds up for a while what goes to one partition of the centre, or to all of a topic (-1), so that it does not hold up the rest.
func (u *Uplink) bar(t *target, partition int32, why string) {
	for _, l := range *u.lanes.Load() {
		if l.target == t && (partition < 0 || l.index == partition) {
			l.barred, l.barredAt = why, u.o.Now()
		}
	}
	u.alarm("%s", why)
}

// ready reports whether the lane's records can be sent now.
func (l *lane) ready() bool { return l.known && l.blocked.Load() == nil }

// pending is the number of offsets that wait.
func (l *lane) pending() int64 {
	_, stable, _ := l.src.Offsets()
	return stable - l.scan
}

// match reports whether name fits a rule's pattern, in which * stands for any run of characters.
func match(pattern, name string) bool {
	head, rest, any := strings.Cut(pattern, "*")
	if !any {
		return pattern == name
	}
	if internal(name) || !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		part, more, any := strings.Cut(rest, "*")
		if !any {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], more
	}
}

// internal topics are not meant by a pattern.
func internal(name string) bool { return strings.HasPrefix(name, "_rivulet") }

// updateLanes brings the lanes in line with the store's topics. Lanes that stay keep their state; new ones are not known yet.
func (u *Uplink) updateLanes() {
	u.epoch = u.o.Broker.Store().Epoch()
	old := make(map[uint32]*lane)
	for _, l := range *u.lanes.Load() {
		old[l.src.ID] = l
	}
	targets := u.targets
	u.targets = make(map[string]*target)
	lanes := make([]*lane, 0, len(old))
	byID := make(map[uint32]*lane)
	for _, t := range u.o.Broker.Store().Topics() {
		rule, ok := u.rule(t.Name)
		if !ok {
			continue
		}
		to := strings.NewReplacer("{topic}", t.Name, "{edge}", u.o.Edge).Replace(rule.To)
		tg := u.targets[to]
		if tg == nil {
			if tg = targets[to]; tg == nil {
				tg = &target{name: to, maxBytes: 1 << 20}
			}
			u.targets[to] = tg
			tg.want, tg.compact = 0, false
		}
		tg.want = max(tg.want, int32(len(t.Partitions)))
		tg.compact = tg.compact || strings.Contains(t.Config["cleanup.policy"], "compact")
		for _, p := range t.Partitions {
			l := old[p.ID]
			if l == nil {
				l = &lane{src: p, topic: t.Name, index: p.Index, target: tg}
				l.skips = u.loadSkips(l)
			}
			l.priority.Store(int32(cmp.Or(rule.Priority, t.Policy.Priority)))
			lanes = append(lanes, l)
			byID[p.ID] = l
		}
	}
	slices.SortStableFunc(lanes, func(a, b *lane) int { return cmp.Compare(b.priority.Load(), a.priority.Load()) })
	u.lanes.Store(&lanes)
	u.laneOf.Store(&byID)
	u.turn = 0
}

func (u *Uplink) rule(topic string) (Rule, bool) {
	for _, r := range u.o.Up {
		if match(r.Topic, topic) {
			return r, true
		}
	}
	return Rule{}, false
}
