//go:build interop

package interop

import (
	"strings"
	"testing"
)

func TestKafkaPython(t *testing.T) {
	p := started(t)
	for _, version := range []string{"RIVULET_PYTHON", "RIVULET_PYTHON_OLD"} {
		out := tool(t, "", given(t, version), "python/kafka_group.py", p.Kafka, strings.ToLower(version), "group-"+version, "2000")
		if !strings.HasSuffix(out, "ok\n") {
			t.Errorf("%s: %s", version, out)
		}
		t.Log(out)
	}
}

func TestPahoPython(t *testing.T) {
	p := started(t)
	host, port := hostPort(p.MQTT)
	out := tool(t, "", given(t, "RIVULET_PYTHON"), "python/mqtt_clients.py", host, port)
	if n := strings.Count(out, "ok "); n != 6 {
		t.Errorf("%d of 6 runs: %s", n, out)
	}
}
