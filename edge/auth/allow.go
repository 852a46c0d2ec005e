package auth

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"

	"rivulet/edge"
)

// slots are the decisions that a session remembers: a table without locks, in sets of four, in which a new decision takes the place of
// an older one of its set.
type slots [8][4]atomic.Pointer[decided]

// decided is one decision.
type decided struct {
	generation uint64
	resource   string
	op         edge.Op
	allowed    bool
}

// maxRemembered bounds the resources that are remembered, in bytes: 32 of them cost a connection 8 KiB at most.
const maxRemembered = 256

// Allow decides whether p may do op on a resource. A decision that was made before costs a look at the session.
func (a *Authority) Allow(p *edge.Principal, op edge.Op, resource string) bool {
	if p == nil {
		return false
	}
	st := a.state.Load()
	s, ok := p.Session.(*session)
	if !ok || len(resource) > maxRemembered {
		return a.ask(st, p, s, op, resource)
	}
	if s.expires != 0 && a.now().UnixNano() >= s.expires {
		return false
	}
	table := s.slots.Load()
	if table == nil {
		s.slots.CompareAndSwap(nil, &slots{})
		table = s.slots.Load()
	}
	hash := maphash.String(a.seed, resource) + uint64(op)*0x9e3779b97f4a7c15
	set := &table[hash>>61]
	for i := range set {
		if d := set[i].Load(); d != nil && d.generation == st.generation && d.op == op && d.resource == resource {
			return d.allowed
		}
	}
	allowed := a.ask(st, p, s, op, resource)
	fresh := &decided{st.generation, strings.Clone(resource), op, allowed}
	for i := range set { // of another generation, or empty
		if d := set[i].Load(); d == nil || d.generation != st.generation {
			set[i].Store(fresh)
			return allowed
		}
	}
	set[hash%uint64(len(set))].Store(fresh)
	return allowed
}

// everywhereResource is asked for when an operation is meant on whatever there is. It is no resource's name.
const everywhereResource = "\x00"

// AllowsEverywhere reports whether p may do op on every resource: no rule that denies can concern it, and a rule on everything allows
// it, or nothing has to be allowed. Who may is spared the look at single resources.
func (a *Authority) AllowsEverywhere(p *edge.Principal, op edge.Op) bool {
	return a.Allow(p, op, everywhereResource)
}

// everywhere is decide for all resources at once.
func (a *Authority) everywhere(st *state, p *edge.Principal, op edge.Op) verdict {
	rules := &st.compiled.ops[op]
	for _, r := range rules.deny.concerning(p) {
		if r.about(p) {
			return verdict{why: "a rule denies a part of it"}
		}
	}
	for _, r := range rules.allow.concerning(p) {
		if r.rule.Kind == KindAny && !r.host.IsValid() && r.about(p) {
			return verdict{allowed: true, rule: r}
		}
	}
	return verdict{allowed: st.open || st.fallback == DefaultAllow && !administration(op) && targets[op].kind != KindTopic, why: "on everything"}
}

// ask decides afresh. What is denied is in the audit log: once, until it is forgotten here.
func (a *Authority) ask(st *state, p *edge.Principal, s *session, op edge.Op, resource string) bool {
	d := a.decide(st, p, s, op, resource)
	if !d.allowed && !quiet(op) && resource != everywhereResource {
		a.stats.denied.Add(1)
		a.audit.record(Event{Who: Who(p), From: p.Addr, Client: p.Client, What: OpName(op), Resource: resource, Detail: d.explain().Reason})
	}
	return d.allowed
}

// quiet are operations that are asked about what a client did not name: lists leave out what it may not see.
func quiet(op edge.Op) bool {
	t := &targets[op]
	return t.action&(Describe|DescribeConfigs|IdempotentWrite) != 0
}

// Decision is an answer with its reason.
type Decision struct {
	Allowed bool
	Rule    *Rule // that decided; nil: none did
	Reason  string
}

// Explain decides as Allow does, and says why.
func (a *Authority) Explain(p *edge.Principal, op edge.Op, resource string) Decision {
	s, _ := p.Session.(*session)
	return a.decide(a.state.Load(), p, s, op, resource).explain()
}

// verdict is a decision whose reason is put into words only if somebody asks.
type verdict struct {
	allowed bool
	rule    *compiledRule
	why     string
	err     error
}

func (v verdict) explain() Decision {
	d := Decision{Allowed: v.allowed, Reason: v.why}
	switch {
	case v.err != nil:
		d.Reason = v.err.Error()
	case v.rule != nil:
		d.Rule = &v.rule.rule
		d.Reason = fmt.Sprintf("%s by %q (%s)", map[bool]string{true: "allowed", false: "denied"}[v.allowed], v.rule.rule.String(), v.rule.rule.Source)
	}
	return d
}

// Someone is a principal that did not log in here, for Explain.
func (a *Authority) Someone(name string, groups []string, c Conn) *edge.Principal {
	p, _ := a.principal(c, name, MethodPassword)
	if name == "" {
		p.Method = MethodAnonymous
	}
	p.Groups = groups
	if u := a.state.Load().users[name]; u != nil && groups == nil {
		p.Groups = u.Groups
	}
	return p
}

func (a *Authority) decide(st *state, p *edge.Principal, s *session, op edge.Op, resource string) verdict {
	if p.Super {
		return verdict{allowed: true, why: "the owner of the data directory may do everything"}
	}
	if op >= edge.OpCount {
		return verdict{why: "unknown operation"}
	}
	var addr netip.Addr
	if s != nil {
		if err := a.valid(st, p, s); err != nil {
			return verdict{err: err}
		}
		addr = s.addr
	} else {
		if err := st.holds(p); err != nil {
			return verdict{err: err}
		}
		addr = addrOf(p.Addr)
	}
	p = st.asOfNow(p, s)
	if resource == everywhereResource {
		return a.everywhere(st, p, op)
	}
	if op == edge.OpSubscribe {
		resource = unshared(resource)
	}
	rules := &st.compiled.ops[op]
	if r := rules.deny.find(p, addr, op, resource); r != nil {
		return verdict{rule: r}
	}
	if r := rules.allow.find(p, addr, op, resource); r != nil {
		return verdict{allowed: true, rule: r}
	}
	switch {
	case st.open:
		return verdict{allowed: true, why: "nobody has to log in and there is no rule: everything is allowed"}
	case st.fallback == DefaultAllow && targets[op].kind == KindTopic && strings.HasPrefix(resource, internalPrefix):
		return verdict{why: "no rule names it, and auth.default does not speak of the broker's own topics"}
	case st.fallback == DefaultAllow && !administration(op):
		return verdict{allowed: true, why: "no rule speaks of it, and auth.default is allow"}
	}
	return verdict{why: "no rule allows it"}
}

func administration(op edge.Op) bool {
	k := targets[op].kind
	return (k == KindCluster || k == KindPlugin || k == KindSync) && targets[op].action&(Describe|DescribeConfigs|IdempotentWrite) == 0
}

// unshared is the filter of a shared subscription (MQTT-4.8.2).
func unshared(filter string) string {
	rest, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return filter
	}
	_, filter, _ = strings.Cut(rest, "/")
	return filter
}

// OpName is how the audit log and `acl test` call an operation: action and kind, such as publish or topic.read.
func OpName(op edge.Op) string {
	if op >= edge.OpCount {
		return "unknown"
	}
	t := &targets[op]
	if t.kind == KindMQTT {
		return t.action.String()
	}
	return t.kind.String() + "." + t.action.String()
}

// Operation finds an operation by kind and action, for `acl test`.
func Operation(kind Kind, action Actions) (edge.Op, bool) {
	for op := range targets {
		if targets[op].kind == kind && targets[op].action == action {
			return edge.Op(op), true
		}
	}
	return 0, false
}
