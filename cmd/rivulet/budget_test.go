package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet/config"
)

// A budget that is used up is answered in each protocol's way, and ends by itself when there is room.
func TestUsedUpBudget(t *testing.T) {
	s := testServer(t, func(c *config.Config) {
		c.Storage = config.Storage{MaxBytes: 64 << 20, WhenFull: "refuse"}
	})
	if status, _, errs := call(t, "topic", "create", "t", "--server", s.address("http")); status != 0 {
		t.Fatal(errs)
	}
	produced := fillByKafka(t, s.address("kafka"), 64<<20)

	// HTTP says 507, and the broker why.
	post := func() (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.address("http")+"/topics/t",
			strings.NewReader(`{"records":[{"value":{"x":1}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/vnd.kafka.json.v2+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := post(); status != http.StatusInsufficientStorage || !strings.Contains(body, "storage.max_bytes") {
		t.Errorf("POST: %d %s", status, body)
	}
	status, out, _ := call(t, "doctor", "--server", s.address("http"), "--data-dir", s.cfg.DataDir)
	if status != exitUnhealthy || !strings.Contains(out, "storage.max_bytes is used up") || !strings.Contains(out, "of 64.0 MiB are taken") {
		t.Errorf("doctor: %d\n%s", status, out)
	}

	// MQTT 3.1.1 has no word for it: the message waits.
	device := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetClientID("device"))
	if err := await(t.Context(), device.Connect()); err != nil {
		t.Fatal(err)
	}
	defer device.Disconnect(0)
	waits := device.Publish("a", 1, false, "kept back")
	if waits.WaitTimeout(300 * time.Millisecond) {
		t.Errorf("acknowledged by a full store: %v", waits.Error())
	}

	// Room is made; nobody has to tell the broker.
	if status, _, errs := call(t, "topic", "trim", "t", "--before", "latest", "--yes", "--server", s.address("http")); status != 0 {
		t.Fatalf("%d records: %s", produced, errs)
	}
	if err := await(t.Context(), waits); err != nil {
		t.Error(err)
	}
	if status, body := post(); status != http.StatusOK {
		t.Errorf("POST: %d %s", status, body)
	}
}

// fillByKafka produces what does not compress until the broker refuses, which must be after less than most bytes, with a
// throttle time. It returns how many records were taken.
func fillByKafka(t *testing.T, addr string, most int) (taken int) {
	t.Helper()
	throttled := &throttle{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.RecordRetries(0), kgo.ProducerLinger(0),
		kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.WithHooks(throttled))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for size := 0; size < most; size += 256 << 10 {
		value := make([]byte, 256<<10)
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		err := cl.ProduceSync(t.Context(), &kgo.Record{Value: value}).FirstErr()
		if errors.Is(err, kerr.KafkaStorageError) {
			if throttled.longest == 0 {
				t.Error("refused without a throttle time")
			}
			return taken
		}
		if err != nil {
			t.Fatal(err)
		}
		taken++
	}
	t.Fatalf("%d bytes were taken", most)
	return 0
}

// throttle notes how long the broker asked to wait.
type throttle struct{ longest time.Duration }

// OnBrokerThrottle implements kgo.HookBrokerThrottle.
func (h *throttle) OnBrokerThrottle(_ kgo.BrokerMetadata, d time.Duration, _ bool) {
	h.longest = max(h.longest, d)
}

var _ kgo.HookBrokerThrottle = (*throttle)(nil)
