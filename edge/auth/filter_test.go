package auth

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rivulet/edge"
)

// topics are all of up to four levels over a small alphabet: enough to tell any two filters of three levels apart.
func topics() []string {
	letters := []string{"a", "b", "z", "", "$x"}
	list := slices.Clone(letters)
	last := letters
	for range 3 {
		var deeper []string
		for _, t := range last {
			for _, l := range letters {
				deeper = append(deeper, t+"/"+l)
			}
		}
		list = append(list, deeper...)
		last = deeper
	}
	return list // with the empty one, which filters match although no client can publish there
}

func filterGen() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "", "$x"}), 1, 3).Draw(t, "levels")
		if rapid.IntRange(0, 2).Draw(t, "end") == 0 {
			levels[len(levels)-1] = "#"
		}
		if f := strings.Join(levels, "/"); f != "" {
			return f
		}
		return "a"
	})
}

// A rule covers a subscription only if it covers everything that the subscription can match, and a rule that denies overlaps it
// exactly if there is a topic that both match.
func TestFiltersAgainstAllTopics(t *testing.T) {
	all := topics()
	who := &edge.Principal{}
	rapid.Check(t, func(t *rapid.T) {
		rule, sub := filterGen().Draw(t, "rule"), filterGen().Draw(t, "sub")
		f, err := parseFilter(rule, "e")
		if err != nil {
			t.Fatal(err)
		}
		missing, common := "none", "none"
		for _, topic := range all {
			if !edge.MatchFilter(sub, topic) {
				continue
			}
			if edge.MatchFilter(rule, topic) {
				common = topic
			} else {
				missing = topic
			}
		}
		if f.covers(sub, who) && missing != "none" {
			t.Fatalf("%q covers %q, but not %q", rule, sub, missing)
		}
		if f.overlaps(sub, who) != (common != "none") {
			t.Fatalf("%q overlaps %q: %v, but %q is in both", rule, sub, f.overlaps(sub, who), common)
		}
		// A topic is a filter, too.
		topic := rapid.SampledFrom(all).Draw(t, "topic")
		if f.covers(topic, who) != edge.MatchFilter(rule, topic) {
			t.Fatalf("%q covers topic %q: %v", rule, topic, f.covers(topic, who))
		}
	})
}

// The generous way round: what is the same, or plainly within, is covered.
func TestCovers(t *testing.T) {
	for _, c := range []struct {
		rule, sub string
		want      bool
	}{
		{"a/#", "a/#", true},
		{"a/#", "a", true},
		{"a/#", "a/+/b", true},
		{"a/+", "a/+", true},
		{"a/+", "a/b", true},
		{"#", "#", true},
		{"#", "+/+", true},
		{"+/#", "+/#", true},
		{"a/+", "a/#", false},
		{"a/b", "a/+", false},
		{"+", "#", false},
		{"#", "$SYS/#", false},
		{"$SYS/#", "$SYS/broker/#", true},
		{"+/b", "$SYS/b", false},
	} {
		f, err := parseFilter(c.rule, "e")
		if err != nil {
			t.Fatal(err)
		}
		if got := f.covers(c.sub, &edge.Principal{}); got != c.want {
			t.Errorf("%q covers %q: %v", c.rule, c.sub, got)
		}
	}
}

// What a client chose stands for text of one level, and never for a wildcard, a level more, or nothing.
func TestPlaceholdersDoNotWiden(t *testing.T) {
	f, err := parseFilter("f/{client}/x-{user}/{edge}/#", "plant-7")
	if err != nil {
		t.Fatal(err)
	}
	if !f.covers("f/c/x-u/plant-7/t", &edge.Principal{Name: "u", Client: "c"}) {
		t.Error("plain values do not match")
	}
	for _, c := range []struct{ client, user, sub string }{
		{"+", "u", "f/+/x-u/plant-7/t"},
		{"#", "u", "f/#"},
		{"c/d", "u", "f/c/d/x-u/plant-7/t"},
		{"", "u", "f//x-u/plant-7/t"},
		{"c", "", "f/c/x-/plant-7/t"},
		{"c", "u/plant-7", "f/c/x-u/plant-7/plant-7/t"},
		{"c", "+", "f/c/+/plant-7/t"},
		{"c", "{client}", "f/c/x-c/plant-7/t"},
		{"{user}", "u", "f/u/x-u/plant-7/t"},
		{"c\x00", "u", "f/c\x00/x-u/plant-7/t"},
		{"d", "u", "f/c/x-u/plant-7/t"},
	} {
		if f.covers(c.sub, &edge.Principal{Name: c.user, Client: c.client}) {
			t.Errorf("client %q, user %q may %q", c.client, c.user, c.sub)
		}
	}
	if _, err := parseFilter("f/{edge}/t", "a/+"); err == nil {
		t.Error("an edge's id widens a rule")
	}
	if _, err := parseFilter("f/{device}/t", "e"); err == nil {
		t.Error("an unknown placeholder is taken for text")
	}
}

func FuzzRule(f *testing.F) {
	f.Add("allow publish user dev-* mqtt f/{client}/#", "dev-1", "c1", "f/c1/t")
	f.Add("deny all host 10.0.0.0/8", "", "", "x")
	f.Add(`allow read,write topic a\*`, "ann", "c", "a*")
	f.Fuzz(func(t *testing.T, text, user, client, resource string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again.String() != r.String() || again.ID() != r.ID() {
			t.Fatalf("%q: %q, %q, %v", text, r.String(), again.String(), err)
		}
		stored, err := decodeRule(r.encode())
		if err != nil || stored.ID() != r.ID() {
			t.Fatalf("%q: %v", text, err)
		}
		c, err := compile([]Rule{r}, "e")
		if err != nil {
			return
		}
		p := &edge.Principal{Name: user, Client: client}
		for op := range edge.OpCount {
			c.ops[op].allow.find(p, addrOf("10.1.1.1:1"), op, resource)
			c.ops[op].deny.find(p, addrOf("10.1.1.1:1"), op, resource)
		}
	})
}
