//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet-bench/process"
)

// transports is a broker that is reached in every way.
type transports struct {
	tcp, tls, ws, wss string // addresses
	ca                string // PEM file
	pool              *x509.CertPool
}

func startedTransports(t *testing.T) *transports {
	t.Helper()
	dir := t.TempDir()
	tool(t, "", binary(t), "tls", "init", dir, "--host", "127.0.0.1")
	addrs, err := process.FreeAddrs(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
listeners:
  mqtts: {addr: "%s", tls: {cert: server.pem, key: server.key}}
  ws:    {addr: "%s"}
  wss:   {addr: "%s", tls: {cert: server.pem, key: server.key}}
`, addrs[0], addrs[1], addrs[2])
	file := filepath.Join(dir, "rivulet.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := started(t, "--config", file)
	x := &transports{tcp: p.MQTT, tls: addrs[0], ws: addrs[1], wss: addrs[2], ca: filepath.Join(dir, "ca.pem"), pool: x509.NewCertPool()}
	pem, err := os.ReadFile(x.ca)
	if err != nil {
		t.Fatal(err)
	}
	if !x.pool.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem holds no certificate")
	}
	return x
}

func TestMQTTJS(t *testing.T) {
	x := startedTransports(t)
	t.Setenv("NODE_PATH", given(t, "RIVULET_MQTTJS"))
	t.Setenv("RIVULET_CA", x.ca)
	for _, url := range []string{"mqtt://" + x.tcp, "mqtts://" + x.tls, "ws://" + x.ws + "/mqtt", "wss://" + x.wss + "/mqtt"} {
		if out := tool(t, "", "node", "js/mqtt_clients.js", url); strings.Count(out, "ok ") != 6 {
			t.Errorf("%s: %s", url, out)
		}
	}
}

func TestPahoPythonTransports(t *testing.T) {
	x := startedTransports(t)
	for _, c := range []struct {
		addr, transport string
		ca              []string
	}{{x.tcp, "tcp", nil}, {x.tls, "tcp", []string{x.ca}}, {x.ws, "websockets", nil}, {x.wss, "websockets", []string{x.ca}}} {
		host, port := hostPort(c.addr)
		out := tool(t, "", given(t, "RIVULET_PYTHON"), append([]string{"python/mqtt_transports.py", host, port, c.transport}, c.ca...)...)
		if strings.Count(out, "ok ") != 6 {
			t.Errorf("%s %v: %s", c.transport, c.ca, out)
		}
	}
}

func TestMosquittoClientsOverTLS(t *testing.T) {
	x := startedTransports(t)
	host, port := hostPort(x.tls)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			topic := "tls/" + version + qos
			tool(t, "", "mosquitto_pub", "-h", host, "-p", port, "--cafile", x.ca, "-V", version, "-q", qos, "-r", "-t", topic, "-m", "secret")
			got := tool(t, "", "mosquitto_sub", "-h", host, "-p", port, "--cafile", x.ca, "-V", version, "-q", qos, "-t", topic, "-C", "1", "-W", "20")
			if got != "secret\n" {
				t.Errorf("%s: %q", topic, got)
			}
		}
	}
}

func TestPahoGoTransports(t *testing.T) {
	x := startedTransports(t)
	tc := &tls.Config{RootCAs: x.pool}
	for _, url := range []string{"tcp://" + x.tcp, "ssl://" + x.tls, "ws://" + x.ws + "/mqtt", "wss://" + x.wss + "/mqtt"} {
		for _, qos := range []byte{0, 1, 2} {
			heard := make(chan string, 200)
			c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetTLSConfig(tc).SetAutoReconnect(false))
			topic := fmt.Sprintf("go/%d", qos)
			settled := func(token mqtt.Token) {
				t.Helper()
				if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
					t.Fatalf("%s: %v", url, token.Error())
				}
			}
			settled(c.Connect())
			settled(c.Subscribe(topic, qos, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))
			for i := range 100 {
				settled(c.Publish(topic, qos, false, fmt.Sprint(i)))
			}
			for i := range 100 {
				select {
				case got := <-heard:
					if got != fmt.Sprint(i) {
						t.Fatalf("%s QoS %d: got %s, want %d", url, qos, got, i)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("%s QoS %d: message %d did not come", url, qos, i)
				}
			}
			c.Disconnect(100)
		}
	}
}

// dial opens a connection for a client that takes one.
func (x *transports) dial(ctx context.Context, transport string) (net.Conn, error) {
	secure := &tls.Config{RootCAs: x.pool}
	switch transport {
	case "tcp":
		return (&net.Dialer{}).DialContext(ctx, "tcp", x.tcp)
	case "tls":
		return (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", x.tls)
	}
	url := "ws://" + x.ws + "/mqtt"
	if transport == "wss" {
		url = "wss://" + x.wss + "/mqtt"
	}
	tr := &http.Transport{TLSClientConfig: secure}
	defer tr.CloseIdleConnections()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	return websocket.NetConn(ctx, ws, websocket.MessageBinary), nil
}

// paho.golang speaks MQTT 5. It writes from many goroutines, a packet in pieces, so the connection needs a lock of its own; over WebSocket
// each piece is a frame.
func TestPahoGoV5Transports(t *testing.T) {
	x := startedTransports(t)
	for _, transport := range []string{"tcp", "tls", "ws", "wss"} {
		nc, err := x.dial(t.Context(), transport)
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan *paho.Publish, 200)
		c := paho.NewClient(paho.ClientConfig{Conn: pahopackets.NewThreadSafeConn(nc), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(r paho.PublishReceived) (bool, error) { heard <- r.Packet; return true, nil },
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := c.Connect(ctx, &paho.Connect{ClientID: "v5", CleanStart: true, KeepAlive: 30}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(ctx, &paho.Publish{Topic: "v5", QoS: 1, Payload: []byte("history")}); err != nil {
			t.Fatal(err)
		}
		_, err = c.Subscribe(ctx, &paho.Subscribe{
			Subscriptions: []paho.SubscribeOptions{{Topic: "v5", QoS: 2}},
			Properties:    &paho.SubscribeProperties{User: paho.UserProperties{{Key: "replay-from", Value: "-10m"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for qos := range byte(3) {
			if _, err := c.Publish(ctx, &paho.Publish{Topic: "v5", QoS: qos, Payload: []byte{'0' + qos}}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for len(got) == 0 || got[len(got)-1] != "2" {
			select {
			case m := <-heard:
				got = append(got, string(m.Payload))
			case <-ctx.Done():
				t.Fatalf("%s: %q", transport, got)
			}
		}
		if s := strings.Join(got[len(got)-4:], " "); s != "history 0 1 2" {
			t.Errorf("%s: %q", transport, got)
		}
		if err := c.Disconnect(&paho.Disconnect{}); err != nil {
			t.Error(err)
		}
	}
}
