package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// devices publish telemetry with QoS 1, each on a connection of its own.
type devices struct {
	acked   atomic.Uint64
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once

	mu     sync.Mutex
	failed error // the first
}

// deviceTick is how often a device publishes what is due.
const deviceTick = 20 * time.Millisecond

func startDevices(ctx context.Context, addr string, seed uint64) (*devices, error) {
	ds := &devices{}
	var clients []mqtt.Client
	for i := range demoDevices {
		o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(fmt.Sprintf("device-%d", i+1)).SetCleanSession(true).
			SetAutoReconnect(false).SetConnectTimeout(10 * time.Second)
		c := mqtt.NewClient(o)
		if err := await(ctx, c.Connect()); err != nil {
			for _, c := range clients {
				c.Disconnect(0)
			}
			return nil, fmt.Errorf("connect device: %w", err)
		}
		clients = append(clients, c)
	}
	// The devices end with stop, not with ctx: what is under way when an interrupt comes is still acknowledged.
	ctx, ds.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for i, c := range clients {
		ds.running.Go(func() {
			defer c.Disconnect(250)
			if err := ds.publish(ctx, c, i+1, rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
				ds.mu.Lock()
				if ds.failed == nil {
					ds.failed = fmt.Errorf("device %d: %w", i+1, err)
				}
				ds.mu.Unlock()
			}
		})
	}
	return ds, nil
}

// publish sends a temperature that wanders around the filter's threshold, and waits for every acknowledgement.
func (ds *devices) publish(ctx context.Context, c mqtt.Client, id int, rnd *rand.Rand) error {
	topic := fmt.Sprintf("factory/line%d/telemetry", id)
	temp, seq := float64(demoThreshold), 0
	tick := time.NewTicker(deviceTick)
	defer tick.Stop()
	const due = int(demoRate * deviceTick / time.Second)
	tokens := make([]mqtt.Token, due)
	for {
		for i := range tokens {
			seq++
			temp += rnd.NormFloat64()*0.8 - (temp-demoThreshold-2)*0.05
			tokens[i] = c.Publish(topic, 1, false, fmt.Sprintf(
				`{"device":"line%d","seq":%d,"ts":%d,"temp":%.2f,"pressure":%.3f,"vibration":%.4f,"state":"running"}`,
				id, seq, time.Now().UnixMilli(), temp, 4.2+rnd.Float64()*0.1, rnd.Float64()*0.02))
		}
		for _, t := range tokens {
			<-t.Done()
			if err := t.Error(); err != nil {
				return err
			}
			ds.acked.Add(1)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// stop waits for what is under way.
func (ds *devices) stop() {
	ds.once.Do(func() {
		ds.cancel()
		ds.running.Wait()
	})
}

func (ds *devices) err() error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.failed
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
