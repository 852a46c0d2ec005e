//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Apache Kafka's own tools configure a topic, read it back, delete records and look at the log's size.
func TestApacheTopicConfiguration(t *testing.T) {
	for _, line := range []string{"4", "3.9"} {
		t.Run(line, func(t *testing.T) {
			p := started(t)
			server := []string{"--bootstrap-server", p.Kafka}
			class := func(name string) string { // 3.9 has some under their old names
				if line == "3.9" && (name == "ConfigCommand" || name == "ConsoleProducer") {
					return map[string]string{"ConfigCommand": "kafka.admin.ConfigCommand", "ConsoleProducer": "kafka.tools.ConsoleProducer"}[name]
				}
				if name == "ConfigCommand" {
					return "kafka.admin.ConfigCommand"
				}
				return "org.apache.kafka.tools." + name
			}
			run := func(stdin, name string, args ...string) string {
				t.Helper()
				return apache(t, stdin, line, class(name), append(server, args...)...)
			}
			run("", "TopicCommand", "--create", "--topic", "t", "--partitions", "1", "--replication-factor", "1", "--config", "segment.ms=60000")

			configs := []string{"--entity-type", "topics", "--entity-name", "t"}
			run("", "ConfigCommand", append(configs, "--alter", "--add-config", "cleanup.policy=[compact,delete],retention.ms=3600000,min.cleanable.dirty.ratio=0.2,rivulet.priority=7")...)
			out := run("", "ConfigCommand", append(configs, "--describe")...)
			for _, want := range []string{"cleanup.policy=compact,delete ", "retention.ms=3600000 ", "segment.ms=60000 ", "min.cleanable.dirty.ratio=0.2 ", "rivulet.priority=7 "} {
				if !strings.Contains(out, want) {
					t.Errorf("describe shows no %s: %s", want, out)
				}
			}
			if strings.Contains(out, "retention.bytes") {
				t.Errorf("describe shows what was not set: %s", out)
			}
			run("", "ConfigCommand", append(configs, "--alter", "--delete-config", "segment.ms,rivulet.priority")...)
			out = run("", "ConfigCommand", append(configs, "--describe", "--all")...)
			for _, want := range []string{"segment.ms=604800000 ", "rivulet.priority=0 ", "retention.bytes=-1 ", "DYNAMIC_TOPIC_CONFIG:retention.ms=3600000"} {
				if !strings.Contains(out, want) {
					t.Errorf("describe --all shows no %s: %s", want, out)
				}
			}
			for _, bad := range []string{"min.insync.replicas=2", "compression.type=lzo", "rivulet.priority=12"} {
				if out, err := try(t, "", "./kafka.sh", append([]string{"tool", line, class("ConfigCommand"), "--bootstrap-server", p.Kafka}, append(configs, "--alter", "--add-config", bad)...)...); err == nil {
					t.Errorf("%s is accepted: %s", bad, out)
				} else if key, _, _ := strings.Cut(bad, "="); !strings.Contains(err.Error(), key) {
					t.Errorf("%s is refused without its name: %v", bad, err)
				}
			}

			var in strings.Builder
			for i := range 100 {
				fmt.Fprintf(&in, "k%d\tvalue %d\n", i, i)
			}
			run(in.String(), "ConsoleProducer", "--topic", "t", readerProperty(line), "parse.key=true")
			file := filepath.Join(t.ArtifactDir(), "delete.json")
			if err := os.WriteFile(file, []byte(`{"version":1,"partitions":[{"topic":"t","partition":0,"offset":40}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			deleter := "DeleteRecordsCommand"
			if out := run("", deleter, "--offset-json-file", file); !strings.Contains(out, "low_watermark: 40") {
				t.Errorf("delete-records: %s", out)
			}
			if out := run("", "GetOffsetShell", "--topic", "t", "--time", "-2"); !strings.Contains(out, "t:0:40") {
				t.Errorf("the log starts: %s", out)
			}
			out = run("", "consumer.ConsoleConsumer", "--topic", "t", "--from-beginning", "--max-messages", "60", "--timeout-ms", "30000")
			if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 60 || lines[0] != "value 40" {
				t.Errorf("a consumer reads %d records, the first %q", len(lines), lines[0])
			}
			out = run("", "LogDirsCommand", "--describe", "--topic-list", "t")
			var dirs struct {
				Brokers []struct {
					LogDirs []struct {
						Partitions []struct{ Partition string }
					}
				}
			}
			if err := json.Unmarshal([]byte(regexp.MustCompile(`(?m)^\{.*$`).FindString(out)), &dirs); err != nil {
				t.Fatalf("log-dirs: %v: %s", err, out)
			}
			if len(dirs.Brokers) != 1 || len(dirs.Brokers[0].LogDirs) != 1 || len(dirs.Brokers[0].LogDirs[0].Partitions) != 1 || dirs.Brokers[0].LogDirs[0].Partitions[0].Partition != "t-0" {
				t.Errorf("log-dirs: %s", out)
			}
		})
	}
}
