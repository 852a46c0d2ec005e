package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"rivulet/edge"
)

// Kind is what a rule's resource is. The values are stored.
type Kind uint8

// The kinds.
const (
	KindAny  Kind = iota // everything; the rule has no resource
	KindMQTT             // the resource is an MQTT topic filter
	KindTopic
	KindGroup
	KindTxn
	KindCluster // the resource is the broker itself; the name is ClusterName
	KindPlugin
	KindSync // uplinks, downlinks, bridges
	kindCount
)

// ClusterName is Kafka's name of the one resource of KindCluster.
const ClusterName = "kafka-cluster"

var kindNames = [kindCount]string{"any", "mqtt", "topic", "group", "txn", "cluster", "plugin", "sync"}

func (k Kind) String() string { return kindNames[k] }

// Action is one bit of Actions.
type Action = Actions

// Actions are a set.
type Actions uint32

// The actions. The values are stored.
const (
	Publish         Actions = 1 << iota // MQTT
	Subscribe                           // MQTT
	Read                                // topic, group
	Write                               // topic, txn
	Create                              // topic; cluster: any topic
	Delete                              // topic, group
	Alter                               // topic; cluster: administration
	Describe                            // all but MQTT; of topics, groups and txns implied by the right to anything else there
	DescribeConfigs                     // topic, cluster; implied by AlterConfigs
	AlterConfigs                        // topic, cluster
	IdempotentWrite                     // cluster
	ClusterAction                       // cluster: Kafka's, kept for its API; nothing asks for it
	Push                                // plugin
	Attach                              // plugin
	Control                             // sync: pause, resume
	All             Actions = 1 << 31   // whatever there is on the resource, now and later
)

var actionNames = []struct {
	name string
	bit  Actions
}{
	{"publish", Publish},
	{"subscribe", Subscribe},
	{"read", Read},
	{"write", Write},
	{"create", Create},
	{"delete", Delete},
	{"alter", Alter},
	{"describe", Describe},
	{"describe_configs", DescribeConfigs},
	{"alter_configs", AlterConfigs},
	{"idempotent_write", IdempotentWrite},
	{"cluster_action", ClusterAction},
	{"push", Push},
	{"attach", Attach},
	{"control", Control},
	{"all", All},
}

// kindActions are what a rule of a kind may name, besides All.
var kindActions = [kindCount]Actions{
	KindMQTT:    Publish | Subscribe,
	KindTopic:   Read | Write | Create | Delete | Alter | Describe | DescribeConfigs | AlterConfigs,
	KindGroup:   Read | Delete | Describe,
	KindTxn:     Write | Describe,
	KindCluster: Create | Alter | Describe | DescribeConfigs | AlterConfigs | IdempotentWrite | ClusterAction,
	KindPlugin:  Describe | Push | Attach,
	KindSync:    Describe | Control,
}

// ParseActions reads names with commas or spaces between them.
func ParseActions(s string) (Actions, error) {
	var set Actions
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		at := slices.IndexFunc(actionNames, func(a struct {
			name string
			bit  Actions
		},
		) bool {
			return a.name == strings.ReplaceAll(strings.ToLower(word), "-", "_")
		})
		if at < 0 {
			var names []string
			for _, a := range actionNames {
				names = append(names, a.name)
			}
			return 0, fmt.Errorf("%w action %q; did you mean %q?", ErrInvalid, word, edge.Nearest(word, names))
		}
		set |= actionNames[at].bit
	}
	if set == 0 {
		return 0, fmt.Errorf("%w actions %q: say what is allowed or denied, such as publish", ErrInvalid, s)
	}
	return set, nil
}

func (a Actions) String() string {
	var names []string
	for _, n := range actionNames {
		if a&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// Rule allows or denies.
type Rule struct {
	Deny    bool    `json:"deny,omitempty"`
	Actions Actions `json:"actions"`
	// User is whom it is about: a name, a prefix with * behind it, @group, anonymous; "" is everyone who was let in.
	User string `json:"user,omitempty"`
	Host string `json:"host,omitempty"` // address or CIDR; "" is any
	Kind Kind   `json:"kind"`
	// Name is the resource: an MQTT filter, or a name, of which * alone is any. {user}, {client} and {edge} stand for the principal's.
	Name   string `json:"name,omitempty"`
	Prefix bool   `json:"prefix,omitempty"` // Name is the beginning of names; not for MQTT

	// Source is where a rule comes from: "store", or a file and line. It is not part of what the rule is.
	Source string `json:"-"`
}

// SourceStore is the Source of what can be changed.
const SourceStore = "store"

// ID tells a rule from others; the same rule has the same.
func (r Rule) ID() string {
	h := sha256.Sum256(r.encode())
	return hex.EncodeToString(h[:6])
}

func (r Rule) encode() []byte {
	r.Source = ""
	b, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode rule: " + err.Error()) // of strings and numbers
	}
	return b
}

func decodeRule(b []byte) (Rule, error) {
	var r Rule
	if err := json.Unmarshal(b, &r); err != nil {
		return Rule{}, fmt.Errorf("decode rule: %w", err)
	}
	r.Source = SourceStore
	return r, r.Check()
}

// String is the rule as one line.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString("allow ")
	if r.Deny {
		b.Reset()
		b.WriteString("deny ")
	}
	b.WriteString(r.Actions.String())
	if r.User != "" {
		b.WriteString(" user " + r.User)
	}
	if r.Host != "" {
		b.WriteString(" host " + r.Host)
	}
	switch r.Kind {
	case KindAny:
	case KindCluster:
		b.WriteString(" cluster")
	default:
		b.WriteString(" " + r.Kind.String() + " " + r.NameText())
	}
	return b.String()
}

// NameText is Name as rules are written: with * behind a prefix, and \* for a name that ends in one.
func (r Rule) NameText() string {
	switch {
	case r.Kind == KindMQTT || r.Kind == KindAny || r.Kind == KindCluster || r.Name == "*" && !r.Prefix:
		return r.Name
	case r.Prefix:
		return r.Name + "*"
	case strings.HasSuffix(r.Name, "*"):
		return strings.TrimSuffix(r.Name, "*") + `\*`
	}
	return r.Name
}

// SetName takes NameText's form.
func (r *Rule) SetName(kind Kind, text string) {
	r.Kind, r.Name, r.Prefix = kind, text, false
	if kind == KindMQTT || kind == KindAny || kind == KindCluster || text == "*" {
		return
	}
	if name, ok := strings.CutSuffix(text, `\*`); ok {
		r.Name = name + "*"
	} else if name, ok := strings.CutSuffix(text, "*"); ok {
		r.Name, r.Prefix = name, true
	}
}

// maxName bounds names in rules.
const maxName = 4 << 10

// Check refuses what could never match, or would match more than it says.
func (r Rule) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w rule: "+format, append([]any{ErrInvalid}, args...)...)
	}
	if r.Kind >= kindCount {
		return bad("kind %d", r.Kind)
	}
	if r.Actions == 0 {
		return bad("no action")
	}
	if !utf8.ValidString(r.User) || !utf8.ValidString(r.Name) { // the store would keep another rule
		return bad("user %q or resource %q is not UTF-8", r.User, r.Name)
	}
	if err := r.checkActions(); err != nil {
		return bad("%w", err)
	}
	if err := checkSubject(r.User); err != nil {
		return bad("%w", err)
	}
	if r.Host != "" {
		if _, err := parseHost(r.Host); err != nil {
			return bad("host %q: want an address, or a network such as 10.0.0.0/8", r.Host)
		}
	}
	if err := r.checkName(); err != nil {
		return bad("%w", err)
	}
	return nil
}

func (r Rule) checkActions() error {
	if r.Kind == KindAny && r.Actions&All == 0 {
		return fmt.Errorf("%s on what? say mqtt, topic, group, txn, cluster, plugin or sync", r.Actions)
	}
	if extra := r.Actions &^ (kindActions[r.Kind] | All); r.Kind != KindAny && extra != 0 {
		return fmt.Errorf("nobody can %s on %s; it takes %s, or all", extra, r.Kind, kindActions[r.Kind])
	}
	return nil
}

func (r Rule) checkName() error {
	switch {
	case len(r.Name) > maxName || strings.ContainsRune(r.Name, 0):
		return fmt.Errorf("resource is longer than %d bytes, or holds NUL", maxName)
	case r.Kind == KindAny && (r.Name != "" || r.Prefix):
		return fmt.Errorf("a rule on everything has no name")
	case r.Kind == KindCluster && (r.Name != ClusterName || r.Prefix):
		return fmt.Errorf("the cluster's name is %s", ClusterName)
	case r.Kind == KindMQTT && r.Prefix:
		return fmt.Errorf("an MQTT filter is no prefix; end it in /#")
	case r.Name == "" && r.Kind != KindAny:
		return fmt.Errorf("name is missing; * is any")
	}
	if r.Kind == KindMQTT {
		if err := edge.CheckFilter(r.Name); err != nil {
			return err
		}
	}
	_, err := parseTemplate(r.Name, "")
	return err
}

// checkSubject refuses users that rules cannot mean.
func checkSubject(s string) error {
	name, prefix := strings.CutSuffix(s, "*")
	group := strings.HasPrefix(name, "@")
	name = strings.TrimPrefix(name, "@")
	switch {
	case s == "" || s == "*" || s == AnonymousName:
		return nil
	case group && prefix:
		return fmt.Errorf("user %q: a group is named in full", s)
	}
	return CheckUserName(name)
}

func parseHost(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if p.Addr().Is4In6() && p.Bits() >= 96 { // as addresses are compared: by what they are
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// Rules lists those of files first, then the store's.
func (a *Authority) Rules() []Rule {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Clone(a.config.Rules)
	for _, id := range sortedKeys(a.rules) {
		list = append(list, a.rules[id])
	}
	return list
}

// AddRules stores rules, all or none; those that are there stay as they are. It is durable on return.
func (a *Authority) AddRules(ctx context.Context, rules ...Rule) error {
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var commit edge.Commit
	for _, r := range rules {
		// What cannot hold here, for this edge's id, must not be stored: it would be in the way of every later change.
		r.Source = SourceStore
		if _, err := compile([]Rule{r}, a.o.Edge); err != nil {
			return err
		}
		commit.Puts = append(commit.Puts, edge.Put{Space: spaceRules, Key: r.ID(), Value: r.encode()})
	}
	if err := a.commit(ctx, &commit); err != nil {
		return fmt.Errorf("store rules: %w", err)
	}
	for _, r := range rules {
		r.Source = SourceStore
		a.rules[r.ID()] = r
	}
	return a.publish()
}

// DeleteRules deletes the stored rules that match says so of, and returns them. Those of files are not asked about.
func (a *Authority) DeleteRules(ctx context.Context, match func(Rule) bool) ([]Rule, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gone []Rule
	var commit edge.Commit
	for _, id := range sortedKeys(a.rules) {
		if r := a.rules[id]; match(r) {
			gone = append(gone, r)
			commit.Puts = append(commit.Puts, edge.Put{Space: spaceRules, Key: id})
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	if err := a.commit(ctx, &commit); err != nil {
		return nil, fmt.Errorf("delete rules: %w", err)
	}
	for _, r := range gone {
		delete(a.rules, r.ID())
	}
	return gone, a.publish()
}

// ParseRule reads what String writes: allow ACTIONS [user U] [host H] [KIND NAME].
func ParseRule(text string) (Rule, error) {
	words := strings.Fields(text)
	bad := fmt.Errorf("%w rule %q: want allow|deny ACTIONS [user U] [host H] [mqtt|topic|group|txn|plugin|sync NAME | cluster]", ErrInvalid, text)
	if len(words) < 2 || words[0] != "allow" && words[0] != "deny" {
		return Rule{}, bad
	}
	r := Rule{Deny: words[0] == "deny"}
	var err error
	if r.Actions, err = ParseActions(words[1]); err != nil {
		return Rule{}, err
	}
	for rest := words[2:]; len(rest) > 0; {
		if rest[0] == "cluster" {
			r.SetName(KindCluster, ClusterName)
			rest = rest[1:]
			continue
		}
		if len(rest) == 1 {
			return Rule{}, bad
		}
		switch rest[0] {
		case "user":
			r.User = rest[1]
		case "host":
			r.Host = rest[1]
		default:
			kind := slices.Index(kindNames[:], rest[0])
			if kind <= int(KindAny) || r.Kind != KindAny {
				return Rule{}, bad
			}
			r.SetName(Kind(kind), rest[1])
		}
		rest = rest[2:]
	}
	return r, r.Check()
}

// ParseKind reads a kind's name.
func ParseKind(name string) (Kind, error) {
	at := slices.Index(kindNames[:], name)
	if at <= int(KindAny) {
		return 0, fmt.Errorf("%w kind %q; want %s", ErrInvalid, name, strings.Join(kindNames[1:], ", "))
	}
	return Kind(at), nil
}
