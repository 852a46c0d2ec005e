package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mqttConnect connects to addr, or, when it is empty, to where the broker says that its MQTT listener is.
func (p *program) mqttConnect(ctx context.Context, r *remote, addr string, received mqtt.MessageHandler) (mqtt.Client, error) {
	if addr == "" {
		addr = "127.0.0.1:1883"
		if b, err := r.brokerInfo(ctx); err == nil && b.Addresses["mqtt"] != "" {
			addr = b.Addresses["mqtt"]
		}
	}
	user, password, err := r.login()
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("rivulet-" + rand.Text()[:12]).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetConnectTimeout(10 * time.Second).
		SetUsername(user).SetPassword(password).SetDefaultPublishHandler(received)
	c := mqtt.NewClient(o)
	if err := await(ctx, c.Connect()); err != nil {
		return nil, fmt.Errorf("connect to MQTT at %s: %w; start a broker with `rivulet serve`, or say --mqtt", addr, err)
	}
	return c, nil
}

// await waits for what paho promised.
func await(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func checkQoS(qos int) error {
	if qos < 0 || qos > 2 {
		return usageError("--qos %d: want 0, 1 or 2", qos)
	}
	return nil
}

var errLost = errors.New("the broker closed the connection")
