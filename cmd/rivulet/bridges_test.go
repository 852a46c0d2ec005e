package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet/config"
	"rivulet/sync/bridge"
)

// A declared bridge brings what the other broker has, over TLS, and the verb says how it is.
func TestDeclaredBridge(t *testing.T) {
	cert, key := certificate(t)
	far := testServer(t, func(c *config.Config) {
		c.Listeners.MQTTS = config.Listener{Addr: "127.0.0.1:0", TLS: &config.TLS{Cert: cert, Key: key}}
	})
	near := testServer(t, func(c *config.Config) {
		c.Bridges = []config.Bridge{{
			Name: "line3", Broker: "ssl://" + far.address("mqtts"), Subscribe: []string{"a/#"}, QoS: 2, Prefix: "far/", TLS: &config.ClientTLS{CA: cert},
		}}
	})
	status := func() (st bridge.Status) {
		list := near.bridges.Status()
		if len(list) != 1 {
			t.Fatal(list)
		}
		return list[0].Status.(bridge.Status)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for status().State != bridge.StateRunning {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(status())
		}
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + far.address("mqtt")).SetAutoReconnect(false))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	if err := await(t.Context(), c.Publish("a/b", 1, false, "hello")); err != nil {
		t.Fatal(err)
	}
	for status().Committed != 1 {
		<-tick.C
	}
	if _, out, errs := call(t, "consume", "mqtt", "--server", "http://"+near.address("http"), "--count", "1", "--format", "%k %v"); !strings.Contains(out, "far/a/b hello") {
		t.Errorf("consume: %q %q", out, errs)
	}
	server := "http://" + near.address("http")
	shows := func(state string) {
		t.Helper()
		if _, out, errs := call(t, "sync", "status", "--server", server); !strings.Contains(out, "line3") || !strings.Contains(out, state) {
			t.Errorf("sync status: %q %q, want %s", out, errs, state)
		}
	}
	shows("running")
	if code, _, errs := call(t, "sync", "pause", "line3", "--server", server); code != 0 {
		t.Fatal(errs)
	}
	for status().State != bridge.StatePaused {
		<-tick.C
	}
	shows("paused")
	if err := await(t.Context(), c.Publish("a/b", 1, false, "while it was paused")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := call(t, "sync", "resume", "line3", "--server", server); code != 0 {
		t.Fatal(errs)
	}
	for status().Committed != 2 {
		<-tick.C
	}
	if code, _, errs := call(t, "sync", "pause", "line4", "--server", server); code != exitNotFound {
		t.Errorf("pause of what is not there: %d %q", code, errs)
	}
}

// A reload starts, changes and stops bridges; one that is not touched stays connected, and a bad file changes nothing.
func TestReloadBridges(t *testing.T) {
	far := testServer(t, nil)
	dir := t.TempDir()
	declare := func(names ...string) string {
		text := "bridges:\n"
		for _, name := range names {
			name, prefix, _ := strings.Cut(name, "=")
			text += fmt.Sprintf("  - {name: %s, broker: \"tcp://%s\", subscribe: [\"%s/#\"], qos: 1, prefix: \"%s\"}\n", name, far.address("mqtt"), name, prefix)
		}
		return text
	}
	near, rewrite := configured(t, dir, declare("stays", "changes", "goes"), io.Discard)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	running := func(want ...string) {
		t.Helper()
		for {
			var got []string
			for _, b := range near.bridges.Status() {
				if st := b.Status.(bridge.Status); st.State == bridge.StateRunning {
					got = append(got, fmt.Sprint(st.Name, st.Connects))
				}
			}
			if slices.Equal(got, want) {
				return
			}
			select {
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatalf("%v run, want %v", got, want)
			}
		}
	}
	reload := func() string {
		t.Helper()
		done, err := near.reload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(append(done.Changed, done.Restart...), ",")
	}
	running("stays1", "changes1", "goes1")
	if got := reload(); got != "auth" {
		t.Errorf("the same file: %s changed", got)
	}
	rewrite(declare("stays", "changes=there/", "comes"))
	if got := reload(); got != "auth,bridges" {
		t.Errorf("%s changed", got)
	}
	running("stays1", "changes1", "comes1")
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + far.address("mqtt")).SetAutoReconnect(false))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	for _, topic := range []string{"changes/x", "comes/x", "goes/x"} {
		if err := await(t.Context(), c.Publish(topic, 1, false, "x")); err != nil {
			t.Fatal(err)
		}
	}
	for { // the first message that comes makes the topic
		if _, ok := near.store.Topic("mqtt"); ok {
			break
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("nothing came")
		}
	}
	_, out, errs := call(t, "consume", "mqtt", "--server", "http://"+near.address("http"), "--count", "2", "--format", "%k", "--follow")
	if got := strings.Fields(out); len(got) != 2 || !slices.Contains(got, "there/changes/x") || !slices.Contains(got, "comes/x") {
		t.Errorf("%q %q", got, errs)
	}
	rewrite(declare("stays", "comes") + "  - {name: bad, broker: \"tcp://h:1\", subscribe: [\"a\"], tls: {ca: nothing.pem}}\n")
	if _, err := near.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "bridge bad") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Error(err)
	}
	running("stays1", "changes1", "comes1")
	rewrite("{}\n")
	reload()
	running()
}
