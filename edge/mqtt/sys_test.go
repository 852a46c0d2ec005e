package mqtt

import (
	"math"
	"strings"
	"testing"
	"time"

	"rivulet/edge/mqtt/packet"
)

func fastSys(o *Options) { o.SysInterval, o.Version = 5*time.Millisecond, "test" }

func TestSysTopics(t *testing.T) {
	r := newRig(t, rigOptions{server: fastSys})
	pub, sub := r.connect(packet.V5, "pub", nil), r.connect(packet.V5, "sub", nil)
	all := r.connect(packet.V5, "all", nil)
	all.subscribe("#", 0, nil)
	all.subscribe("+/broker/uptime", 0, nil)
	before := r.store.LastSeq()
	sub.subscribe("$SYS/broker/#", 0, nil)
	got := map[string]string{}
	for got["$SYS/broker/version"] == "" { // the last of them
		m := sub.wantPublish()
		still := strings.Contains(string(m.Topic), "/clients/") || strings.HasSuffix(string(m.Topic), "/version")
		if !m.Retain && still && got[string(m.Topic)] == "" { // one that changes may be told first
			t.Fatalf("%s: first without retain", m.Topic)
		}
		got[string(m.Topic)] = string(m.Payload)
	}
	for topic, want := range map[string]string{
		"version": "rivulet test", "clients/connected": "3", "clients/total": "3", "clients/maximum": "3", "clients/disconnected": "0",
		"publish/messages/received": "0", "retained messages/count": "0", "subscriptions/count": "3",
	} {
		if got["$SYS/broker/"+topic] != want {
			t.Errorf("%s: %q, want %q", topic, got["$SYS/broker/"+topic], want)
		}
	}
	if !strings.HasSuffix(got["$SYS/broker/uptime"], " seconds") {
		t.Error(got["$SYS/broker/uptime"])
	}
	if now := r.store.LastSeq(); now != before {
		t.Error("figures were logged")
	}
	all.wantNothing() // MQTT-4.7.2-1
	// What changes is told.
	pub.publish("a", "x", 0, nil)
	for {
		if m := sub.wantPublish(); string(m.Topic) == "$SYS/broker/publish/messages/received" && string(m.Payload) == "1" && !m.Retain {
			break
		}
	}
	// Nobody writes there.
	pub.wantAck(packet.PUBACK, pub.publish("$SYS/broker/version", "mine", 1, nil), packet.NotAuthorized)
}

// One figure, with QoS 1, and a filter that matches none.
func TestSysNarrow(t *testing.T) {
	r := newRig(t, rigOptions{server: fastSys})
	sub := r.connect(packet.V311, "sub", nil)
	sub.subscribe("$SYS/nothing/#", 1, nil)
	sub.wantNothing()
	sub.subscribe("$SYS/broker/version", 1, nil)
	sub.wantMessage("$SYS/broker/version", "rivulet test", 1)
	sub.wantNothing()
}

func TestLoadAverages(t *testing.T) {
	l := load{}
	var now uint64
	for range 60 * 15 * 6 { // a hundred a second, for an hour and a half
		now += 600
		l.tick(now, 6*time.Second)
	}
	for i, avg := range l.avg {
		if math.Abs(avg-6000) > 60 {
			t.Errorf("%d min: %.2f, want 6000 a minute", loadMinutes[i], avg)
		}
	}
	for range 10 {
		l.tick(now, 6*time.Second)
	}
	if a := l.avg; a[0] > 2300 || a[1] < 4700 || a[2] < 5500 {
		t.Errorf("after a minute of silence: %v", a)
	}
}
