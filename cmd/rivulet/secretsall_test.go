package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"

	"rivulet/edge"
	"rivulet/examples/plugins/builtin"
)

// useThings makes one of each thing that has a route of its own: topic, session, group, plugin, rule, user.
func useThings(t *testing.T, s *server) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetClientID("dev").SetCleanSession(false).
		SetUsername("ann").SetPassword("cauliflower-Pa55").SetAutoReconnect(false).SetConnectTimeout(10 * time.Second))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	if err := await(t.Context(), c.Publish("a", 1, true, "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.broker.PushPlugin(t.Context(), "p", "1", "test", builtin.Identity()); err != nil {
		t.Fatal(err)
	}
	if err := s.broker.AttachPlugin(t.Context(), edge.AttachSpec{Plugin: "p", Topic: "mqtt"}); err != nil {
		t.Fatal(err)
	}
	status, body := asAnn(t, s, http.MethodPut, "/v1/groups/g/offsets", `{"offsets":[{"topic":"mqtt","partition":0,"offset":0}]}`, "cauliflower-Pa55")
	if status >= 300 {
		t.Fatalf("%d %s", status, body)
	}
}

// asked is one request.
type asked struct{ method, path string }

// everyRoute is all that the broker's own description has, those that delete last. A parameter that is not known here fails: a new
// resource is to be looked into.
func everyRoute(t *testing.T, s *server) []asked {
	t.Helper()
	names := strings.NewReplacer("{topic}", "mqtt", "{partition}", "0", "{user}", "bob", "{client}", "dev", "{group}", "g", "{plugin}", "p",
		"{uplink}", "cloud", "{bridge}", "line", "{id}", "nothing")
	_, doc := asAnn(t, s, http.MethodGet, "/openapi.json", "", "")
	var api struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(doc), &api); err != nil {
		t.Fatal(err)
	}
	var list []asked
	for path, methods := range api.Paths {
		filled := names.Replace(path)
		if strings.Contains(filled, "{") {
			t.Errorf("nothing is known for %s", path)
		}
		for method := range methods {
			list = append(list, asked{strings.ToUpper(method), filled})
		}
	}
	order := map[string]int{http.MethodGet: 0, http.MethodDelete: 2}
	slices.SortFunc(list, func(a, b asked) int {
		rank := func(r asked) int {
			if n, ok := order[r.method]; ok {
				return n
			}
			return 1
		}
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.path, b.path))
	})
	return list
}

// verbArguments are what each verb is run with; those of users read a password from standard input. Those that begin with ! are not run, for
// the reason that follows.
var verbArguments = map[string]string{
	"acl allow":        "--principal bob publish --mqtt b/#",
	"acl delete":       "nothing --yes",
	"acl deny":         "--principal bob publish --mqtt c/#",
	"acl list":         "-o json",
	"acl test":         "publish --principal ann --mqtt a",
	"backup":           "DIR/backup",
	"config check":     "DIR/rivulet.yaml",
	"config print":     "--config DIR/rivulet.yaml",
	"consume":          "mqtt --count 1",
	"demo":             "! it has no secrets",
	"doctor":           "",
	"group delete":     "none --yes",
	"group describe":   "g",
	"group list":       "-o json",
	"group reset":      "g --topic mqtt --to earliest",
	"plugin attach":    "p --topic mqtt --set a=b",
	"plugin delete":    "p --yes",
	"plugin describe":  "p",
	"plugin detach":    "p --topic none",
	"plugin list":      "-o json",
	"plugin push":      "q DIR/none.wasm",
	"plugin test":      "p --topic mqtt",
	"produce":          "mqtt",
	"pub":              "a -m x",
	"reload":           "",
	"restore":          "DIR/backup --data-dir DIR/restored",
	"serve":            "! its log is looked into",
	"session delete":   "none --yes",
	"session describe": "dev",
	"session list":     "-o json",
	"sub":              "a --count 1",
	"sync pause":       "cloud",
	"sync resume":      "cloud",
	"sync status":      "-o json",
	"tls init":         "DIR/tls",
	"topic alter":      "mqtt --set retention.ms=1000000",
	"topic create":     "other",
	"topic delete":     "other --yes",
	"topic describe":   "mqtt",
	"topic list":       "-o json",
	"topic trim":       "mqtt --before 0 --yes",
	"upgrade":          "--data-dir DIR/restored",
	"user add":         "carl",
	"user delete":      "carl --yes",
	"user hash":        "! it prints a record, which is what it is for",
	"user list":        "-o json",
	"user passwd":      "bob",
	"verify":           "--data-dir DIR/restored",
	"version":          "",
}

// everyVerb runs all verbs of the program as ann, and each that asks the broker with a wrong password, too, and returns what they print.
func everyVerb(t *testing.T, s *server, dir string, secrets map[string]string) map[string]string {
	t.Helper()
	t.Setenv("RIVULET_SERVER", "http://"+s.address("http"))
	t.Setenv("RIVULET_USER", "ann")
	t.Setenv("RIVULET_PASSWORD_FILE", writeFile(t, dir, "ann.password", []byte(secrets["password"]+"\n")))
	told := map[string]string{}
	tell := func(verb, arguments string) {
		args := append(strings.Fields(verb), strings.Fields(strings.ReplaceAll(arguments, "DIR", dir))...)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		stdin := "value\n"
		if strings.HasPrefix(verb, "user ") {
			stdin = secrets["new password"] + "\n"
		}
		var out bytes.Buffer
		status := run(ctx, args, strings.NewReader(stdin), &out, &out)
		if status == exitUsage || ctx.Err() != nil {
			t.Errorf("rivulet %s: %d %s", strings.Join(args, " "), status, &out)
		}
		told["rivulet "+verb+" "+arguments] = out.String()
	}
	var verbs []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasSubCommands() {
			verbs = append(verbs, strings.TrimPrefix(c.CommandPath(), "rivulet "))
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&program{}).root())
	slices.Sort(verbs)
	if want := slices.Sorted(maps.Keys(verbArguments)); !slices.Equal(verbs, want) {
		t.Errorf("the program's verbs are %q, here are %q", verbs, want)
	}
	for _, verb := range verbs {
		if arguments := verbArguments[verb]; !strings.HasPrefix(arguments, "!") {
			tell(verb, arguments)
		}
	}
	tell("topic list", "--password-file "+writeFile(t, dir, "wrong.password", []byte(secrets["wrong password"]+"\n")))
	tell("user add", "eve --password-file "+filepath.Join(dir, "none"))
	return told
}
