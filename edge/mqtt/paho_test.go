package mqtt

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"rivulet/edge"
)

func waited(t *testing.T, what string, tok paho3.Token) {
	t.Helper()
	if !tok.WaitTimeout(time.Minute) {
		t.Fatalf("%s: timed out", what)
	}
	if err := tok.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestPaho311 is Eclipse's client for 3.1 and 3.1.1.
func TestPaho311(t *testing.T) {
	for _, version := range []uint{3, 4} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			o := paho3.NewClientOptions().AddBroker("tcp://" + r.addr).SetClientID("paho").SetProtocolVersion(version).
				SetCleanSession(false).SetOrderMatters(true).SetAutoReconnect(false)
			c := paho3.NewClient(o)
			waited(t, "connect", c.Connect())
			got := make(chan string, 1000)
			waited(t, "subscribe", c.Subscribe("in/#", 2, func(_ paho3.Client, m paho3.Message) {
				got <- fmt.Sprintf("%s %s %d", m.Topic(), m.Payload(), m.Qos())
			}))
			const n = 300
			var tokens []paho3.Token
			for i := range n {
				tokens = append(tokens, c.Publish(fmt.Sprintf("in/%d", i%3), byte(i%3), false, fmt.Sprint(i)))
			}
			for _, tok := range tokens {
				waited(t, "publish", tok)
			}
			seen := map[string]int{}
			for range n {
				select {
				case m := <-got:
					seen[m]++
				case <-time.After(time.Minute):
					t.Fatalf("got %d of %d", len(seen), n)
				}
			}
			for i := range n {
				if key := fmt.Sprintf("in/%d %d %d", i%3, i, i%3); seen[key] != 1 {
					t.Errorf("%s came %d times", key, seen[key])
				}
			}
			if got := len(r.logged(edge.DefaultTopic)); got != n {
				t.Errorf("%d records, want %d", got, n)
			}
			waited(t, "unsubscribe", c.Unsubscribe("in/#"))
			c.Disconnect(100)
		})
	}
}

// TestPaho5 is Eclipse's client for 5.0.
func TestPaho5(t *testing.T) {
	r := newRig(t, rigOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	all := make(chan struct{})
	const n = 200
	c := paho5.NewClient(paho5.ClientConfig{
		ClientID: "paho5", Conn: nc,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			id := 0
			if p.Packet.Properties.SubscriptionIdentifier != nil {
				id = *p.Packet.Properties.SubscriptionIdentifier
			}
			seen = append(seen, fmt.Sprintf("%s %s %s %d", p.Packet.Topic, p.Packet.Payload, p.Packet.Properties.User.Get("n"), id))
			if len(seen) == n {
				close(all)
			}
			return true, nil
		}},
	})
	if _, err := c.Connect(ctx, &paho5.Connect{ClientID: "paho5", KeepAlive: 30, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	id := 7
	if _, err := c.Subscribe(ctx, &paho5.Subscribe{
		Properties:    &paho5.SubscribeProperties{SubscriptionIdentifier: &id},
		Subscriptions: []paho5.SubscribeOptions{{Topic: "in/+", QoS: 2}},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p := &paho5.Publish{Topic: "in/x", QoS: byte(i % 3), Payload: fmt.Append(nil, i), Properties: &paho5.PublishProperties{}}
		p.Properties.User.Add("n", fmt.Sprint(i))
		if _, err := c.Publish(ctx, p); err != nil {
			t.Fatalf("publish %d: %v", i, err)
		}
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatalf("got %d of %d", len(seen), n)
	}
	for i, s := range seen { // one topic, one publisher: in order
		if want := fmt.Sprintf("in/x %d %d 7", i, i); s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
	if err := c.Disconnect(&paho5.Disconnect{}); err != nil {
		t.Error(err)
	}
}
