//go:build interop

package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// apache runs one of Apache Kafka's own tools of a release line: 4 or 3.9.
func apache(t *testing.T, stdin, line, class string, args ...string) string {
	t.Helper()
	return tool(t, stdin, "./kafka.sh", append([]string{"tool", line, class}, args...)...)
}

func TestApacheTools(t *testing.T) {
	for _, line := range []string{"4", "3.9"} {
		t.Run(line, func(t *testing.T) {
			p := started(t)
			server := []string{"--bootstrap-server", p.Kafka}
			run := func(stdin, class string, args ...string) string {
				t.Helper()
				return apache(t, stdin, line, "org.apache.kafka.tools."+class, append(server, args...)...)
			}
			run("", "TopicCommand", "--create", "--topic", "t", "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=3600000")
			if out := run("", "TopicCommand", "--list"); !strings.Contains(out, "t\n") {
				t.Errorf("list: %s", out)
			}
			if out := run("", "TopicCommand", "--describe", "--topic", "t"); !strings.Contains(out, "PartitionCount: 3") || !strings.Contains(out, "retention.ms=3600000") {
				t.Errorf("describe: %s", out)
			}
			run("", "TopicCommand", "--alter", "--topic", "t", "--partitions", "4")

			want := map[string][]string{}
			var in strings.Builder
			for i := range 1000 {
				key, value := fmt.Sprintf("k%d", i%17), fmt.Sprintf("%06d", i)
				want[key] = append(want[key], value)
				fmt.Fprintf(&in, "%s\t%s\n", key, value)
			}
			// 3.9 has it under its old name.
			producer := map[string]string{"4": "org.apache.kafka.tools.ConsoleProducer", "3.9": "kafka.tools.ConsoleProducer"}[line]
			apache(t, in.String(), line, producer, append(server, "--topic", "t", readerProperty(line), "parse.key=true", "--compression-codec", "lz4")...)
			out := run("", "consumer.ConsoleConsumer", "--topic", "t", "--group", "g", "--from-beginning", "--max-messages", "1000", "--timeout-ms", "30000",
				formatterProperty(line), "print.key=true")
			got := map[string][]string{}
			for l := range strings.Lines(out) {
				key, value, _ := strings.Cut(strings.TrimSpace(l), "\t")
				got[key] = append(got[key], value)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-produced +consumed):\n%s", diff)
			}
			if out := run("", "consumer.group.ConsumerGroupCommand", "--list"); !strings.Contains(out, "g\n") {
				t.Errorf("groups: %s", out)
			}
			out = run("", "consumer.group.ConsumerGroupCommand", "--describe", "--group", "g")
			// GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
			if rows := regexp.MustCompile(`(?m)^g\s+t\s+\d\s+(\d+)\s+(\d+)\s+0\s`).FindAllStringSubmatch(out, -1); len(rows) != 4 {
				t.Errorf("the group should be at the end of 4 partitions: %s", out)
			}
			out = run("", "GetOffsetShell", "--topic", "t")
			sum := 0
			for l := range strings.Lines(out) {
				var n int
				if _, err := fmt.Sscanf(l[strings.LastIndex(l, ":")+1:], "%d", &n); err != nil {
					t.Fatalf("offsets: %s", out)
				}
				sum += n
			}
			if sum != 1000 {
				t.Errorf("offsets sum up to %d: %s", sum, out)
			}

			out = run("", "ClientCompatibilityTest", "--topic", "compat", "--num-cluster-nodes", "1",
				"--offsets-for-times-supported", "true", "--cluster-id-supported", "true", "--expect-record-too-large-exception", "false",
				"--create-topics-supported", "true", "--describe-acls-supported", "true", "--describe-configs-supported", "true",
				"--idempotent-producer-supported", "true")
			if !strings.Contains(out, "SUCCESS") {
				t.Errorf("ClientCompatibilityTest: %s", out)
			}
			run("", "TopicCommand", "--delete", "--topic", "t")
			if out := run("", "TopicCommand", "--list"); strings.Contains(out, "t\n") && !strings.Contains(out, "compat") {
				t.Errorf("deleted topic is listed: %s", out)
			}
		})
	}
}

// The options have other names from 4.2 on.
func readerProperty(line string) string {
	if line == "4" {
		return "--reader-property"
	}
	return "--property"
}

func formatterProperty(line string) string {
	if line == "4" {
		return "--formatter-property"
	}
	return "--property"
}
