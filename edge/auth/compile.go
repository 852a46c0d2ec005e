package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"rivulet/edge"
)

// target is what an operation asks rules about.
type target struct {
	kind   Kind
	action Actions
	// implied: the right to any of these is the right to this one, too, where rules allow; not where they deny (as in Kafka).
	implied Actions
}

// targets of all operations.
var targets = [edge.OpCount]target{
	edge.OpPublish:                {KindMQTT, Publish, 0},
	edge.OpSubscribe:              {KindMQTT, Subscribe, 0},
	edge.OpRead:                   {KindTopic, Read, 0},
	edge.OpWrite:                  {KindTopic, Write, 0},
	edge.OpCreate:                 {KindTopic, Create, 0},
	edge.OpDelete:                 {KindTopic, Delete, 0},
	edge.OpAlter:                  {KindTopic, Alter, 0},
	edge.OpDescribe:               {KindTopic, Describe, Read | Write | Delete | Alter},
	edge.OpGroup:                  {KindGroup, Read, 0},
	edge.OpTxn:                    {KindTxn, Write, 0},
	edge.OpAdmin:                  {KindCluster, Alter, 0},
	edge.OpDescribeConfigs:        {KindTopic, DescribeConfigs, AlterConfigs},
	edge.OpAlterConfigs:           {KindTopic, AlterConfigs, 0},
	edge.OpGroupDescribe:          {KindGroup, Describe, Read | Delete},
	edge.OpGroupDelete:            {KindGroup, Delete, 0},
	edge.OpTxnDescribe:            {KindTxn, Describe, Write},
	edge.OpClusterDescribe:        {KindCluster, Describe, Alter},
	edge.OpClusterDescribeConfigs: {KindCluster, DescribeConfigs, AlterConfigs},
	edge.OpClusterAlterConfigs:    {KindCluster, AlterConfigs, 0},
	edge.OpIdempotentWrite:        {KindCluster, IdempotentWrite, 0},
	edge.OpPluginDescribe:         {KindPlugin, Describe, Push | Attach},
	edge.OpPluginPush:             {KindPlugin, Push, 0},
	edge.OpPluginAttach:           {KindPlugin, Attach, 0},
	edge.OpSyncDescribe:           {KindSync, Describe, Control},
	edge.OpSyncControl:            {KindSync, Control, 0},
}

// compiled are all rules, sorted by what asks for them.
type compiled struct {
	ops [edge.OpCount]struct{ deny, allow ruleSet }
}

// ruleSet are the rules of one operation and effect: those of one user by its name, and those that need a look at the user.
type ruleSet struct {
	byUser map[string]*ruleList
	others ruleList
}

// ruleList finds the few of many rules that can match a resource: by its name, or, of MQTT, its first level.
type ruleList struct {
	all   []*compiledRule
	byKey map[string][]*compiledRule
	loose []*compiledRule // that match more than one key
}

func (l *ruleList) add(r *compiledRule) {
	l.all = append(l.all, r)
	key, ok := r.key()
	if !ok {
		l.loose = append(l.loose, r)
		return
	}
	if l.byKey == nil {
		l.byKey = map[string][]*compiledRule{}
	}
	l.byKey[key] = append(l.byKey[key], r)
}

// key is what every resource that the rule matches begins with, or is.
func (r *compiledRule) key() (string, bool) {
	switch {
	case r.filter != nil && r.filter[0].wild != 0, r.any, r.rule.Prefix, r.name != nil:
		return "", false
	case r.filter != nil:
		return r.filter[0].text.plain()
	}
	return r.literal, true
}

// candidates are the rules that may match, in two lists.
func (l *ruleList) candidates(op edge.Op, resource string) (some, more []*compiledRule) {
	if len(l.all) <= 8 {
		return l.all, nil
	}
	if op == edge.OpPublish || op == edge.OpSubscribe {
		if resource, _, _ = next(resource); resource == "+" || resource == "#" {
			return l.all, nil
		}
	}
	return l.byKey[resource], l.loose
}

// compiledRule is a rule, ready to be matched without allocation.
type compiledRule struct {
	rule     Rule
	user     string // name, or its beginning:
	prefix   bool
	group    string
	anyone   bool
	anon     bool
	host     netip.Prefix
	filter   filter
	name     template
	literal  string // the name, when it has no placeholder
	any      bool   // every name
	internal bool   // it means internal topics, too
}

func compile(rules []Rule, edgeID string) (*compiled, error) {
	c := &compiled{}
	for i := range rules {
		if err := rules[i].Check(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", rules[i].Source, rules[i], err)
		}
		r, err := compileRule(rules[i], edgeID)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w: %w", rules[i].Source, rules[i], ErrInvalid, err)
		}
		for op := range targets {
			t := &targets[op]
			set := &c.ops[op].allow
			matches := t.action | t.implied | All
			if r.rule.Deny {
				set, matches = &c.ops[op].deny, t.action|All
			}
			// Kafka: the right to create on the cluster is the right to create any topic.
			create := edge.Op(op) == edge.OpCreate && r.rule.Kind == KindCluster
			if r.rule.Actions&matches == 0 || r.rule.Kind != KindAny && r.rule.Kind != t.kind && !create {
				continue
			}
			set.add(r)
		}
		// Kafka: who may write to some topic may have a producer id (KIP-679).
		if !r.rule.Deny && r.rule.Kind == KindTopic && r.rule.Actions&(Write|All) != 0 {
			some := *r
			some.any = true
			c.ops[edge.OpIdempotentWrite].allow.add(&some)
		}
	}
	return c, nil
}

func (s *ruleSet) add(r *compiledRule) {
	u := r.rule.User
	if r.anyone || r.group != "" || r.anon || strings.HasSuffix(u, "*") {
		s.others.add(r)
		return
	}
	if s.byUser == nil {
		s.byUser = map[string]*ruleList{}
	}
	if s.byUser[u] == nil {
		s.byUser[u] = &ruleList{}
	}
	s.byUser[u].add(r)
}

func compileRule(r Rule, edgeID string) (*compiledRule, error) {
	c := &compiledRule{rule: r}
	switch {
	case r.User == "" || r.User == "*":
		c.anyone = true
	case r.User == AnonymousName:
		c.anon = true
	case strings.HasPrefix(r.User, "@"):
		c.group = r.User[1:]
	default:
		c.user, c.prefix = strings.CutSuffix(r.User, "*")
	}
	var err error
	if r.Host != "" {
		if c.host, err = parseHost(r.Host); err != nil {
			return nil, err
		}
	}
	switch r.Kind {
	case KindAny, KindCluster:
		c.any, c.internal = true, true
	case KindMQTT:
		c.filter, err = parseFilter(r.Name, edgeID)
	default:
		c.any = r.Name == "*" && !r.Prefix
		c.internal = strings.HasPrefix(r.Name, internalPrefix)
		if c.name, err = parseTemplate(r.Name, edgeID); err == nil {
			if text, ok := c.name.plain(); ok {
				c.literal, c.name = text, nil
			}
		}
	}
	return c, err
}

// internalPrefix begins the names of the broker's own topics: the audit log is not for everyone who may read any topic. A rule
// that means them names them.
const internalPrefix = "_rivulet"

// find returns a rule that speaks of the operation on the resource.
func (s *ruleSet) find(p *edge.Principal, addr netip.Addr, op edge.Op, resource string) *compiledRule {
	if own := s.byUser[p.Name]; own != nil && p.Name != "" {
		if r := own.find(p, addr, op, resource); r != nil {
			return r
		}
	}
	return s.others.find(p, addr, op, resource)
}

// concerning are the rules that may be about a principal.
func (s *ruleSet) concerning(p *edge.Principal) []*compiledRule {
	if own := s.byUser[p.Name]; own != nil && p.Name != "" {
		return slices.Concat(own.all, s.others.all)
	}
	return s.others.all
}

func (l *ruleList) find(p *edge.Principal, addr netip.Addr, op edge.Op, resource string) *compiledRule {
	some, more := l.candidates(op, resource)
	for _, list := range [...][]*compiledRule{some, more} {
		for _, r := range list {
			if r.about(p) && (!r.host.IsValid() || r.host.Contains(addr)) && r.matches(p, op, resource) {
				return r
			}
		}
	}
	return nil
}

// about reports whether the rule is about this user.
func (r *compiledRule) about(p *edge.Principal) bool {
	switch {
	case r.anyone:
		return true
	case r.anon:
		return p.Name == ""
	case r.group != "":
		return slices.Contains(p.Groups, r.group)
	}
	return p.Name != "" && (p.Name == r.user || r.prefix && strings.HasPrefix(p.Name, r.user))
}

func (r *compiledRule) matches(p *edge.Principal, op edge.Op, resource string) bool {
	if r.filter != nil {
		if op == edge.OpSubscribe && r.rule.Deny {
			return r.filter.overlaps(resource, p)
		}
		return r.filter.covers(resource, p)
	}
	if !r.internal && !r.rule.Deny && r.rule.Kind == KindTopic && strings.HasPrefix(resource, internalPrefix) {
		return false
	}
	switch {
	case r.any:
		return true
	case r.name != nil:
		rest, ok := r.name.cut(resource, p)
		return ok && (rest == "" || r.rule.Prefix)
	case r.rule.Prefix:
		return strings.HasPrefix(resource, r.literal)
	}
	return resource == r.literal
}
