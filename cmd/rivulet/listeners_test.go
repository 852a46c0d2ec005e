package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet/config"
)

// One broker is reached over every kind of listener, and what is published over one is heard over another.
func TestListeners(t *testing.T) {
	cert, key := certificate(t)
	socket := filepath.Join(t.TempDir(), "mqtt.sock")
	s := testServer(t, func(c *config.Config) {
		c.Listeners.MQTT.Addr = "unix:" + socket
		c.Listeners.WS.Addr = "127.0.0.1:0"
		c.Listeners.WSS = config.Listener{Addr: "127.0.0.1:0", TLS: &config.TLS{Cert: cert, Key: key}}
	})
	tc, err := clientTLS(&config.ClientTLS{CA: cert})
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"unix://" + socket, "ws://" + s.address("ws") + "/mqtt", "ws://" + s.address("ws"), "wss://" + s.address("wss") + "/mqtt"} {
		heard := make(chan string, 100)
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetTLSConfig(tc).SetAutoReconnect(false).SetConnectTimeout(time.Minute))
		if err := await(t.Context(), c.Connect()); err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if err := await(t.Context(), c.Subscribe("a/#", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) })); err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		for _, want := range []string{"hello", strings.Repeat("long ", 100_000)} {
			if err := await(t.Context(), c.Publish("a/b", 1, false, want)); err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if got := <-heard; got != want {
				t.Errorf("%s: heard %.20q, want %.20q", url, got, want)
			}
		}
		c.Disconnect(100)
	}
}

// A socket file that a killed process left is replaced; one that somebody listens on is not.
func TestSocketOfAnother(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "mqtt.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	c := demoConfig(t.TempDir(), "data")
	c.Listeners.MQTT.Addr = "unix:" + socket
	if _, err := startServer(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is another process's") {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	testServer(t, func(c *config.Config) { c.Listeners.MQTT.Addr = "unix:" + socket })
}
