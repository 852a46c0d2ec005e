package auth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// withRules is an authority whose anonymous clients are asked, too.
func withRules(t testing.TB, rules ...string) *auth.Authority {
	t.Helper()
	c := auth.Config{Anonymous: auth.AnonymousYes}
	for _, text := range rules {
		r := rule(t, text)
		r.Source = "test"
		c.Rules = append(c.Rules, r)
	}
	return open(t, auth.Options{Config: c})
}

func TestDecisions(t *testing.T) {
	for _, c := range []struct {
		rules    string // with ; between
		who      string // user@host:client, groups behind |
		op       edge.Op
		resource string
		want     bool
	}{
		// Deny goes over allow, in any order.
		{"allow all; deny publish mqtt a/#", "ann", edge.OpPublish, "a/b", false},
		{"deny publish mqtt a/#; allow all user ann", "ann", edge.OpPublish, "a/b", false},
		{"deny publish mqtt a/#; allow all user ann", "ann", edge.OpPublish, "b", true},
		{"deny publish mqtt a/#; allow all user ann", "ann", edge.OpSubscribe, "a/b", true},
		{"allow all user ann", "bob", edge.OpPublish, "b", false},
		{"allow all user ann", "", edge.OpPublish, "b", false},
		{"allow all user ann", "ann", edge.OpAdmin, "", true},
		{"allow all", "", edge.OpAdmin, "", true},
		// Users.
		{"allow publish user dev-* mqtt #", "dev-1", edge.OpPublish, "x", true},
		{"allow publish user dev-* mqtt #", "dev", edge.OpPublish, "x", false},
		{"allow publish user dev-* mqtt #", "", edge.OpPublish, "x", false},
		{"allow publish user anonymous mqtt #", "", edge.OpPublish, "x", true},
		{"allow publish user anonymous mqtt #", "ann", edge.OpPublish, "x", false},
		{"allow publish user * mqtt #", "", edge.OpPublish, "x", true},
		{"allow publish user @ops mqtt #", "ann|ops", edge.OpPublish, "x", true},
		{"allow publish user @ops mqtt #", "ann|dev", edge.OpPublish, "x", false},
		{"allow publish user @ops mqtt #", "ops", edge.OpPublish, "x", false},
		{"deny publish user @guests mqtt #; allow all user ann", "ann|guests", edge.OpPublish, "x", false},
		// Hosts.
		{"allow publish host 10.0.0.0/8 mqtt #", "ann@10.1.2.3:5", edge.OpPublish, "x", true},
		{"allow publish host 10.0.0.0/8 mqtt #", "ann@11.1.2.3:5", edge.OpPublish, "x", false},
		{"allow publish host ::ffff:10.0.0.0/104 mqtt #", "ann@10.1.2.3:5", edge.OpPublish, "x", true},
		{"allow publish host ::ffff:10.0.0.0/104 mqtt #", "ann@11.1.2.3:5", edge.OpPublish, "x", false},
		{"allow publish host 10.0.0.0/8 mqtt #", "ann@[::ffff:10.1.2.3]:5", edge.OpPublish, "x", true},
		{"allow publish host 10.0.0.0/8 mqtt #", "ann@@", edge.OpPublish, "x", false},
		{"allow publish host ::1 mqtt #", "ann@[::1]:5", edge.OpPublish, "x", true},
		// Subscriptions: all that the filter can match.
		{"allow subscribe mqtt a/#", "ann", edge.OpSubscribe, "a/+", true},
		{"allow subscribe mqtt a/#", "ann", edge.OpSubscribe, "#", false},
		{"allow subscribe mqtt a/#", "ann", edge.OpSubscribe, "+/b", false},
		{"allow subscribe mqtt #; deny subscribe mqtt a/secret", "ann", edge.OpSubscribe, "a/+", false},
		{"allow subscribe mqtt #; deny subscribe mqtt a/secret", "ann", edge.OpSubscribe, "#", false},
		{"allow subscribe mqtt #; deny subscribe mqtt a/secret", "ann", edge.OpSubscribe, "b/#", true},
		{"allow subscribe mqtt a/#", "ann", edge.OpSubscribe, "$share/g/a/+", true},
		{"allow subscribe mqtt a/#", "ann", edge.OpSubscribe, "$share/a/#", false},
		{"allow subscribe mqtt #", "ann", edge.OpSubscribe, "$SYS/#", false},
		{"allow subscribe mqtt #; deny subscribe mqtt a/#", "ann", edge.OpSubscribe, "$share/g/a/b", false},
		{"allow publish mqtt #", "ann", edge.OpSubscribe, "a", false},
		// Names: literal, prefix, any; a name that ends in a star.
		{"allow read topic a", "ann", edge.OpRead, "a", true},
		{"allow read topic a", "ann", edge.OpRead, "ab", false},
		{"allow read topic a*", "ann", edge.OpRead, "ab", true},
		{"allow read topic a*", "ann", edge.OpRead, "b", false},
		{"allow read topic *", "ann", edge.OpRead, "b", true},
		{`allow read group a\*`, "ann", edge.OpGroup, "a*", true},
		{`allow read group a\*`, "ann", edge.OpGroup, "ab", false},
		{"allow read topic {user}.*", "ann", edge.OpRead, "ann.x", true},
		{"allow read topic {user}.*", "ann", edge.OpRead, "bob.x", false},
		{"allow read topic {user}.*", "", edge.OpRead, ".x", false},
		{"allow write topic {edge}.t", "ann", edge.OpWrite, "plant-7.t", true},
		{"allow write topic {client}", "ann:c1", edge.OpWrite, "c1", true},
		// The broker's own topics are meant only where they are named.
		{"allow read topic *", "ann", edge.OpRead, "_rivulet-audit", false},
		{"allow read topic _*", "ann", edge.OpRead, "_rivulet-audit", false},
		{"allow read topic _rivulet*", "ann", edge.OpRead, "_rivulet-audit", true},
		{"allow read topic _rivulet-audit", "ann", edge.OpRead, "_rivulet-audit", true},
		{"allow all user ann", "ann", edge.OpRead, "_rivulet-audit", true},
		{"allow all user ann; deny read topic *", "ann", edge.OpRead, "_rivulet-audit", false},
		// What implies what, where it is allowed; not where it is denied.
		{"allow write topic a", "ann", edge.OpDescribe, "a", true},
		{"allow read topic a", "ann", edge.OpDescribeConfigs, "a", false},
		{"allow alter_configs topic a", "ann", edge.OpDescribeConfigs, "a", true},
		{"allow all topic a", "ann", edge.OpAlterConfigs, "a", true},
		{"allow all topic a; deny read topic a", "ann", edge.OpDescribe, "a", true},
		{"allow read topic a; deny describe topic a", "ann", edge.OpDescribe, "a", false},
		{"allow read topic a; deny describe topic a", "ann", edge.OpRead, "a", true},
		{"allow read group g", "ann", edge.OpGroupDescribe, "g", true},
		{"allow read group g", "ann", edge.OpGroupDelete, "g", false},
		{"allow write txn x*", "ann", edge.OpTxn, "xy", true},
		{"allow write txn x*", "ann", edge.OpTxnDescribe, "xy", true},
		{"allow describe txn x*", "ann", edge.OpTxn, "xy", false},
		{"allow create cluster", "ann", edge.OpCreate, "t", true},
		{"allow create topic t", "ann", edge.OpCreate, "t", true},
		{"allow create topic t", "ann", edge.OpCreate, "u", false},
		{"allow create cluster; deny create topic t", "ann", edge.OpCreate, "t", false},
		{"allow describe cluster", "ann", edge.OpClusterDescribe, "", true},
		{"allow describe cluster", "ann", edge.OpAdmin, "", false},
		{"allow alter cluster", "ann", edge.OpAdmin, "users", true},
		{"allow push plugin ann-*", "ann", edge.OpPluginPush, "ann-1", true},
		{"allow push plugin ann-*", "ann", edge.OpPluginDescribe, "ann-1", true},
		{"allow push plugin ann-*", "ann", edge.OpPluginAttach, "ann-1", false},
		{"allow control sync cloud", "ann", edge.OpSyncControl, "cloud", true},
		{"allow describe sync cloud", "ann", edge.OpSyncControl, "cloud", false},
		// Kinds do not mix.
		{"allow all topic *", "ann", edge.OpPublish, "a", false},
		{"allow all mqtt #", "ann", edge.OpWrite, "a", false},
		{"allow all cluster", "ann", edge.OpRead, "a", false},
	} {
		t.Run(c.rules+"/"+c.who+"/"+auth.OpName(c.op)+" "+c.resource, func(t *testing.T) {
			a := withRules(t, strings.Split(c.rules, "; ")...)
			who, groups, _ := strings.Cut(c.who, "|")
			user, addr, _ := strings.Cut(who, "@")
			client := ""
			if addr == "" {
				user, client, _ = strings.Cut(user, ":")
			}
			var list []string
			if groups != "" {
				list = strings.Split(groups, ",")
			}
			p := a.Someone(user, list, auth.Conn{Addr: addr, Client: client})
			d := a.Explain(p, c.op, c.resource)
			if d.Allowed != c.want || d.Reason == "" {
				t.Errorf("%+v", d)
			}
			for range 2 { // fresh, and remembered
				if got := a.Allow(p, c.op, c.resource); got != c.want {
					t.Errorf("Allow says %v, Explain %+v", got, d)
				}
			}
		})
	}
}

// Every operation is on some kind, can be allowed by a rule on it alone, and denied.
func TestEveryOperationHasItsRule(t *testing.T) {
	names := map[auth.Kind]string{
		auth.KindMQTT: "mqtt r", auth.KindTopic: "topic r", auth.KindGroup: "group r", auth.KindTxn: "txn r",
		auth.KindCluster: "cluster", auth.KindPlugin: "plugin r", auth.KindSync: "sync r",
	}
	seen := map[string]bool{}
	for op := range edge.OpCount {
		name := auth.OpName(op)
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		found := false
		for kind, on := range names {
			for bit := auth.Actions(1); bit < auth.All; bit <<= 1 {
				if o, ok := auth.Operation(kind, bit); !ok || o != op {
					continue
				}
				found = true
				a := withRules(t, "allow "+bit.String()+" "+on)
				p := a.Someone("ann", nil, auth.Conn{})
				if !a.Allow(p, op, "r") {
					t.Errorf("%s cannot be allowed", name)
				}
				for other := range edge.OpCount {
					if other != op && other != edge.OpIdempotentWrite && a.Allow(p, other, "r") && !strings.Contains(auth.OpName(other), "describe") && (op != edge.OpAdmin && auth.OpName(op) != "cluster.create" || other != edge.OpCreate) {
						t.Errorf("allowing %s allows %s", name, auth.OpName(other))
					}
				}
				a = withRules(t, "allow all", "deny "+bit.String()+" "+on)
				if a.Allow(a.Someone("ann", nil, auth.Conn{}), op, "r") {
					t.Errorf("%s cannot be denied", name)
				}
			}
		}
		if !found {
			t.Errorf("operation %s has no kind and action", name)
		}
		if withRules(t, "allow publish user nobody mqtt x").Allow(&edge.Principal{Name: "ann"}, op, "r") {
			t.Errorf("%s is allowed by no rule", name)
		}
	}
}

// With Reload and stored changes what was remembered does not count any more.
func TestChangesHoldAtOnce(t *testing.T) {
	changed := 0
	a := open(t, auth.Options{Changed: func() { changed++ }})
	ctx := t.Context()
	if err := a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "x1"}); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 64)
	defer a.Watch(func() { told <- struct{}{} })()
	p, err := a.Password(ctx, "ann", "x1", conn)
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, want bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		<-told
		for range 2 {
			if got := a.Allow(p, edge.OpPublish, "a/b"); got != want {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
	allow := rule(t, "allow publish user ann mqtt a/#")
	step("allowed", true, a.AddRules(ctx, allow))
	step("denied", false, a.AddRules(ctx, rule(t, "deny publish mqtt a/b")))
	_, err = a.DeleteRules(ctx, func(r auth.Rule) bool { return r.Deny })
	step("deny deleted", true, err)
	step("group", true, a.UpdateUser(ctx, "ann", func(u *auth.User) error { u.Groups = []string{"g"}; return nil }))
	step("disabled", false, a.UpdateUser(ctx, "ann", func(u *auth.User) error { u.Disabled = true; return nil }))
	step("enabled", true, a.UpdateUser(ctx, "ann", func(u *auth.User) error { u.Disabled = false; return nil }))
	if a.Valid(p) != nil {
		t.Error("the login does not hold any more")
	}
	step("new password", false, a.SetPassword(ctx, "ann", "x2"))
	if a.Valid(p) == nil {
		t.Error("the login with the old password holds")
	}
	if p, err = a.Password(ctx, "ann", "x1", conn); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("the old password: %v", err)
	}
	if p, err = a.Password(ctx, "ann", "x2", conn); err != nil {
		t.Fatal(err)
	}
	step("deleted", false, a.DeleteUser(ctx, "ann"))
	if a.Valid(p) == nil {
		t.Error("the deleted user's login holds")
	}
	// Another user of that name is not the one that was logged in.
	step("made again", false, a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "x2"}))
	if changed < 10 {
		t.Errorf("Changed was called %d times", changed)
	}
}

// A token's principal may do nothing when it has expired, remembered or not.
func TestExpiredLoginsMayDoNothing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := open(t, auth.Options{
		Now:    func() time.Time { return now },
		Config: auth.Config{JWT: &auth.JWT{Keys: [][]byte{[]byte(testJWKs)}}, Rules: []auth.Rule{rule(t, "allow all")}},
	})
	p, err := a.Token(t.Context(), hs256(t, map[string]any{"sub": "ann", "exp": now.Unix() + 60}), conn)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Allow(p, edge.OpPublish, "a") || p.Expires.IsZero() {
		t.Error("a good token")
	}
	now = p.Expires
	if a.Allow(p, edge.OpPublish, "a") || a.Allow(p, edge.OpPublish, "b") || a.Valid(p) == nil {
		t.Error("an expired one")
	}
}

func TestDefaults(t *testing.T) {
	ask := func(c auth.Config, op edge.Op) bool {
		a := open(t, auth.Options{Config: c})
		return a.Allow(a.Someone("ann", nil, conn), op, "x")
	}
	for _, c := range []struct {
		name  string
		c     auth.Config
		data  bool
		admin bool
	}{
		{"nothing", auth.Config{}, true, true},
		{"anonymous", auth.Config{Anonymous: auth.AnonymousYes}, true, true},
		{"login", auth.Config{Anonymous: auth.AnonymousNo}, false, false},
		{"no users", auth.Config{Users: []auth.User{}}, false, false},
		{"rules", auth.Config{Anonymous: auth.AnonymousYes, Rules: []auth.Rule{rule(t, "allow publish mqtt y")}}, false, false},
		{"allow", auth.Config{Anonymous: auth.AnonymousNo, Default: auth.DefaultAllow}, true, false},
		{"deny", auth.Config{Default: auth.DefaultDeny}, false, false},
	} {
		if got := ask(c.c, edge.OpPublish); got != c.data {
			t.Errorf("%s: data %v", c.name, got)
		}
		if got := ask(c.c, edge.OpAdmin); got != c.admin {
			t.Errorf("%s: administration %v", c.name, got)
		}
	}
	// The broker's own topics, such as the audit log, are meant only where they are named.
	a := open(t, auth.Options{Config: auth.Config{Anonymous: auth.AnonymousNo, Default: auth.DefaultAllow, Rules: []auth.Rule{rule(t, "allow read user bob topic _rivulet*")}}})
	ann, bob := a.Someone("ann", nil, conn), a.Someone("bob", nil, conn)
	for op, resource := range map[edge.Op]string{edge.OpRead: "_rivulet-audit", edge.OpDescribe: "_rivulet-audit", edge.OpAlterConfigs: "_rivulet-x"} {
		if d := a.Explain(ann, op, resource); d.Allowed || a.Allow(ann, op, resource) || d.Reason == "" {
			t.Errorf("default allow: %s: %+v", auth.OpName(op), d)
		}
	}
	if !a.Allow(ann, edge.OpRead, "x") || !a.Allow(bob, edge.OpRead, "_rivulet-audit") || a.AllowsEverywhere(ann, edge.OpRead) || !a.AllowsEverywhere(ann, edge.OpPublish) {
		t.Error("default allow: topics")
	}
	a = open(t, auth.Options{Config: auth.Config{Anonymous: auth.AnonymousNo}})
	if !a.Allow(a.Owner(auth.Conn{Addr: "@"}), edge.OpAdmin, "") {
		t.Error("the owner may not")
	}
	if a.Allow(nil, edge.OpPublish, "x") {
		t.Error("nobody may")
	}
}

// A remembered decision takes no memory, whatever there is of rules.
func TestAllowDoesNotAllocate(t *testing.T) {
	a, p := thousandRules(t)
	a.Allow(p, edge.OpPublish, "factory/dev-1/temperature")
	if n := testing.AllocsPerRun(100, func() { a.Allow(p, edge.OpPublish, "factory/dev-1/temperature") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func thousandRules(t testing.TB) (*auth.Authority, *edge.Principal) {
	t.Helper()
	var rules []string
	for i := range 998 {
		switch i % 3 {
		case 0:
			rules = append(rules, fmt.Sprintf("allow publish user u%d mqtt line/%d/#", i, i))
		case 1:
			rules = append(rules, fmt.Sprintf("allow publish mqtt line/%d/+/x", i))
		default:
			rules = append(rules, fmt.Sprintf("deny publish user bad-* mqtt factory/%d/#", i))
		}
	}
	a := withRules(t, append(rules, "deny publish mqtt factory/+/firmware", "allow publish user dev-* mqtt factory/{user}/#")...)
	return a, a.Someone("dev-1", nil, conn)
}

func BenchmarkAllow(b *testing.B) {
	a, p := thousandRules(b)
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !a.Allow(p, edge.OpPublish, "factory/dev-1/temperature") {
				b.Fatal("denied")
			}
		}
	})
	b.Run("remembered, 8 topics", func(b *testing.B) {
		var topics [8]string
		for i := range topics {
			topics[i] = fmt.Sprintf("factory/dev-1/sensor-%d", i)
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if !a.Allow(p, edge.OpPublish, topics[i&7]) {
				b.Fatal("denied")
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		q := *p
		q.Session = nil
		b.ReportAllocs()
		for b.Loop() {
			if !a.Allow(&q, edge.OpPublish, "factory/dev-1/temperature") {
				b.Fatal("denied")
			}
		}
	})
}
