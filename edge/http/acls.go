package http

import (
	"fmt"
	"net/http"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// ACL is one access rule: either allow or deny, and at most one resource; without one it is about everything.
type ACL struct {
	ID      string `json:"id,omitempty"`
	Allow   string `json:"allow,omitempty"` // actions, with commas between
	Deny    string `json:"deny,omitempty"`
	User    string `json:"user,omitempty"` // a name, name*, @group, anonymous; "": everyone
	Host    string `json:"host,omitempty"`
	MQTT    string `json:"mqtt,omitempty"`
	Topic   string `json:"topic,omitempty"`
	Group   string `json:"group,omitempty"`
	Txn     string `json:"txn,omitempty"`
	Plugin  string `json:"plugin,omitempty"`
	Sync    string `json:"sync,omitempty"`
	Cluster bool   `json:"cluster,omitempty"`
	Source  string `json:"source,omitempty"` // store, or a file and line, where it is to be changed
}

// ACLTest asks for a decision.
type ACLTest struct {
	User     string   `json:"user,omitempty"` // "": anonymous
	Groups   []string `json:"groups,omitempty"`
	Client   string   `json:"client,omitempty"`
	Address  string   `json:"address,omitempty"`
	Action   string   `json:"action"`             // one, such as publish
	Kind     string   `json:"kind,omitempty"`     // mqtt, topic, group, txn, cluster, plugin, sync; mqtt for publish and subscribe
	Resource string   `json:"resource,omitempty"` // a name; for subscribe, a filter
}

// ACLDecision is the answer.
type ACLDecision struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	Rule    *ACL   `json:"rule"`
}

func (s *Server) aclRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/acls", does: "all access rules, with where they are from", out: []ACL{}, handle: s.listACLs},
		{method: http.MethodPost, path: "/v1/acls", does: "add an access rule", in: ACL{}, out: ACL{}, handle: s.createACL},
		{method: http.MethodDelete, path: "/v1/acls/{id}", does: "delete an access rule", handle: s.deleteACL},
		{method: http.MethodPost, path: "/v1/acl-tests", does: "say whether something is allowed, and which rule decides", in: ACLTest{}, out: ACLDecision{}, handle: s.testACL},
	}
}

// Rule is the rule as the authority takes it.
func (in ACL) Rule() (auth.Rule, error) {
	words := in.Allow
	if in.Deny != "" {
		words = in.Deny
	}
	if (in.Allow == "") == (in.Deny == "") {
		return auth.Rule{}, fmt.Errorf("%w rule: say either allow or deny", auth.ErrInvalid)
	}
	actions, err := auth.ParseActions(words)
	if err != nil {
		return auth.Rule{}, err
	}
	r := auth.Rule{Deny: in.Deny != "", Actions: actions, User: in.User, Host: in.Host}
	given := 0
	for _, on := range in.names() {
		if *on.name != "" {
			given++
			r.SetName(on.kind, *on.name)
		}
	}
	if in.Cluster {
		given++
		r.SetName(auth.KindCluster, auth.ClusterName)
	}
	if given > 1 {
		return auth.Rule{}, fmt.Errorf("%w rule: it is about one resource; make one rule for each", auth.ErrInvalid)
	}
	return r, r.Check()
}

type namedKind struct {
	kind auth.Kind
	name *string
}

func (in *ACL) names() []namedKind {
	return []namedKind{
		{auth.KindMQTT, &in.MQTT},
		{auth.KindTopic, &in.Topic},
		{auth.KindGroup, &in.Group},
		{auth.KindTxn, &in.Txn},
		{auth.KindPlugin, &in.Plugin},
		{auth.KindSync, &in.Sync},
	}
}

func describeACL(r auth.Rule) ACL {
	out := ACL{ID: r.ID(), User: r.User, Host: r.Host, Cluster: r.Kind == auth.KindCluster, Source: r.Source, Allow: r.Actions.String()}
	if r.Deny {
		out.Allow, out.Deny = "", r.Actions.String()
	}
	for _, on := range out.names() {
		if on.kind == r.Kind {
			*on.name = r.NameText()
		}
	}
	return out
}

func (s *Server) listACLs(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "acls")
	if err != nil {
		return err
	}
	list := []ACL{}
	for _, rule := range a.Rules() {
		list = append(list, describeACL(rule))
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) createACL(w http.ResponseWriter, r *http.Request) error {
	var in ACL
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	rule, bad := in.Rule()
	a, err := s.administer(r, "rule "+rule.String())
	if err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	if err := a.AddRules(r.Context(), rule); err != nil {
		return err
	}
	rule.Source = auth.SourceStore
	return answer(w, http.StatusCreated, describeACL(rule))
}

func (s *Server) deleteACL(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "acls")
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	gone, err := a.DeleteRules(r.Context(), func(rule auth.Rule) bool { return rule.ID() == id })
	switch {
	case err != nil:
		return err
	case len(gone) == 0:
		for _, rule := range a.Rules() {
			if rule.ID() == id {
				return fmt.Errorf("rule %s: %w: %s", id, auth.ErrReadOnly, rule.Source)
			}
		}
		return fmt.Errorf("rule %s: %w", id, auth.ErrNoRule)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) testACL(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "acls")
	if err != nil {
		return err
	}
	var in ACLTest
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	op, err := in.operation()
	if err != nil {
		return err
	}
	d := a.Explain(a.Someone(in.User, in.Groups, auth.Conn{Addr: in.Address, Client: in.Client}), op, in.Resource)
	out := ACLDecision{Allowed: d.Allowed, Reason: d.Reason}
	if d.Rule != nil {
		rule := describeACL(*d.Rule)
		out.Rule = &rule
	}
	return answer(w, http.StatusOK, out)
}

func (in ACLTest) operation() (edge.Op, error) {
	action, err := auth.ParseActions(in.Action)
	if err != nil {
		return 0, err
	}
	kind := auth.KindMQTT
	if in.Kind != "" {
		if kind, err = auth.ParseKind(in.Kind); err != nil {
			return 0, err
		}
	}
	op, ok := auth.Operation(kind, action)
	if !ok {
		return 0, fmt.Errorf("%w: nothing asks for %s on %s", auth.ErrInvalid, action, kind)
	}
	return op, nil
}
