package main

import (
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
	if _, out, errs := call(t, "sync", "status", "--server", "http://"+near.address("http")); !strings.Contains(out, "line3") || !strings.Contains(out, "running") {
		t.Errorf("sync status: %q %q", out, errs)
	}
}
