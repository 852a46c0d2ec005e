package edge

import (
	"errors"
	"testing"

	"rivulet/plugins"
)

// Routes change under a broker that runs: a target that is asked for behind the new epoch goes by the new ones.
func TestSetRoutes(t *testing.T) {
	b := open(t, Options{Routes: []Route{{MQTT: "a/#", Topic: "old"}}})
	where := func() string {
		t.Helper()
		target, err := b.Target(t.Context(), "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if target.Topic == nil {
			return "nowhere"
		}
		return target.Topic.Name
	}
	if got := where(); got != "old" {
		t.Fatal(got)
	}
	epoch := b.Epoch()
	if err := b.SetRoutes([]Route{{MQTT: "a/#", Topic: "{2}"}}); err == nil || b.Epoch() != epoch || where() != "old" {
		t.Errorf("a bad route: %v, %s", err, where())
	}
	for _, c := range []struct {
		routes []Route
		want   string
	}{
		{[]Route{{MQTT: "a/+", Topic: "new-{1}"}}, "new-b"},
		{[]Route{{MQTT: "a/+", Live: true}}, "nowhere"},
		{nil, DefaultTopic},
	} {
		epoch := b.Epoch()
		if err := b.SetRoutes(c.routes); err != nil {
			t.Fatal(err)
		}
		if got := where(); got != c.want || b.Epoch() == epoch {
			t.Errorf("%+v: %s, want %s", c.routes, got, c.want)
		}
	}
}

func TestDeclareTopic(t *testing.T) {
	b := open(t, Options{})
	for _, c := range []struct {
		spec    TopicSpec
		changed bool
		bad     error
	}{
		{TopicSpec{Name: "a", Partitions: 2}, true, nil},
		{TopicSpec{Name: "a", Partitions: 2}, false, nil},
		{TopicSpec{Name: "a"}, false, nil},
		{TopicSpec{Name: "a", Partitions: 3}, true, nil},
		{TopicSpec{Name: "a", Partitions: 2}, false, ErrInvalidConfig},
		{TopicSpec{Name: "a", Partitions: -1}, false, ErrInvalidConfig},
		{TopicSpec{Name: "a", Config: map[string]string{"retention.ms": "60000"}}, true, nil},
		{TopicSpec{Name: "a", Partitions: 3, Config: map[string]string{"retention.ms": "60000"}}, false, nil},
		{TopicSpec{Name: "a", Config: map[string]string{"retention.ms": "soon"}}, false, ErrInvalidConfig},
		{TopicSpec{Name: "a b"}, false, ErrInvalidTopic},
	} {
		if err := b.CheckDeclared(c.spec); !errors.Is(err, c.bad) {
			t.Errorf("%+v is checked as %v", c.spec, err)
		}
		if changed, err := b.DeclareTopic(t.Context(), c.spec); changed != c.changed || !errors.Is(err, c.bad) {
			t.Errorf("%+v: changed %v, %v", c.spec, changed, err)
		}
	}
	topic, _ := b.Store().Topic("a")
	if len(topic.Partitions) != 3 || topic.Config["retention.ms"] != "60000" {
		t.Errorf("%d partitions, %v", len(topic.Partitions), topic.Config)
	}
}

// A check starts the module and leaves nothing behind.
func TestCheckPlugin(t *testing.T) {
	b := open(t, Options{})
	good := trapOn("x")
	spec := AttachSpec{Plugin: "p", Topic: "a"}
	if err := b.CheckPlugin(t.Context(), good, spec); err != nil {
		t.Error(err)
	}
	if err := b.CheckPlugin(t.Context(), good[:len(good)-1], spec); !errors.Is(err, plugins.ErrModule) {
		t.Errorf("a broken module: %v", err)
	}
	if err := b.CheckPlugin(t.Context(), good, AttachSpec{Plugin: "p", Topic: "a", Stage: "later"}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("a stage that does not exist: %v", err)
	}
	if _, ok := b.Store().Topic("a"); ok || len(b.Plugins()) != 0 || len(b.Attachments()) != 0 {
		t.Error("it left something behind")
	}
	if !spec.Equal(AttachSpec{Plugin: "p", Topic: "a", Stage: "ingest", OnError: plugins.DeadLetter, Set: map[string]string{}}) ||
		spec.Equal(AttachSpec{Plugin: "p", Topic: "a", Set: map[string]string{"a": "b"}}) {
		t.Error("specifications are compared wrongly")
	}
}
