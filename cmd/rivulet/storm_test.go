package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/auth"
)

// A thousand devices come back at once with passwords that this process has not seen: all get in, a publisher that is there goes on.
// The figures are for people; what is held is that nobody is refused.
func TestAThousandDevicesComeBack(t *testing.T) {
	const devices = 1000
	s := testServer(t, func(c *config.Config) {
		no := false
		c.Storage.Profile = "normal"
		c.Auth.Anonymous = &no
	})
	credential, err := auth.NewCredential(auth.SHA256, "secret", auth.DefaultIterations, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	users := []auth.User{{Name: "steady", Credentials: []auth.Credential{credential}}}
	for i := range devices {
		users = append(users, auth.User{Name: fmt.Sprintf("dev-%d", i), Credentials: []auth.Credential{credential}})
	}
	rule, err := auth.ParseRule("allow all")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.auth.Reload(auth.Config{Users: users, Rules: []auth.Rule{rule}}); err != nil {
		t.Fatal(err)
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetUsername("steady").SetPassword("secret").SetAutoReconnect(false))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	// publish until stop, and say how long each took.
	publish := func(stop <-chan struct{}, least int) []time.Duration {
		var took []time.Duration
		for {
			select {
			case <-stop:
				if len(took) >= least {
					slices.Sort(took)
					return took
				}
			default:
			}
			from := time.Now()
			if err := await(t.Context(), c.Publish("a", 1, false, "x")); err != nil {
				t.Error(err)
				return []time.Duration{0}
			}
			took = append(took, time.Since(from))
		}
	}
	ended := make(chan struct{})
	close(ended)
	calm := publish(ended, 500)

	stop := make(chan struct{})
	busy := make(chan []time.Duration, 1)
	go func() { busy <- publish(stop, 10) }()
	var wg sync.WaitGroup
	from := time.Now()
	for i := range devices {
		wg.Go(func() {
			if code, err := mqttConnect3(t, s.address("mqtt"), fmt.Sprintf("dev-%d", i), "secret"); err != nil || code != 0 {
				t.Errorf("device %d: %d, %v", i, code, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(from)
	close(stop)
	during := <-busy
	t.Logf("%d devices in %v; another's publish p50 %v → %v, p99 %v → %v (%d of them)", devices, took.Round(time.Millisecond),
		calm[len(calm)/2], during[len(during)/2], calm[len(calm)*99/100], during[len(during)*99/100], len(during))
}

// mqttConnect3 sends CONNECT of MQTT 3.1.1 and returns what CONNACK says.
func mqttConnect3(t *testing.T, addr, user, password string) (code byte, err error) {
	nc, err := (&net.Dialer{Timeout: 5 * time.Minute}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	body := text(nil, "MQTT")
	body = append(body, 4, 0xc2, 0, 60)
	for _, s := range []string{user, user, password} {
		body = text(body, s)
	}
	if _, err := nc.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return 0, err
	}
	if err := nc.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return 0, err
	}
	var ack [4]byte
	_, err = io.ReadFull(nc, ack[:])
	return ack[3], err
}
