//go:build interop

package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"rivulet/edge/auth/authtest"
)

// Apache Kafka's own tools, with each way to log in; the ACLs and users that they make are the broker's.
func TestSecureApacheTools(t *testing.T) {
	s := startedSecure(t)
	read := func(name string) string {
		text, err := os.ReadFile(s.file(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	store := s.write("client-ann.both.pem", read("client-ann.key")+read("client-ann.pem"))
	trust := "ssl.truststore.type=PEM\nssl.truststore.location=" + s.file("ca.pem") + "\n"
	jaas := func(module, options string) string {
		return "sasl.jaas.config=org.apache.kafka.common.security." + module + " required " + options + ";\n"
	}
	login := func(user, password string) string { return fmt.Sprintf("username=%q password=%q", user, password) }
	plain := s.write("plain.properties", "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"+jaas("plain.PlainLoginModule", login("ann", annsPassword)))
	scram := s.write("scram.properties", trust+"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"+jaas("scram.ScramLoginModule", login("ann", annsPassword)))
	mutual := s.write("mutual.properties", trust+"security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location="+store+"\n")
	token := "file://" + s.write("token", authtest.Token("ann", time.Hour))
	bearer := s.write("bearer.properties", trust+"security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url="+token+"\n"+
		"sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n"+jaas("oauthbearer.OAuthBearerLoginModule", ""))
	zoe := s.write("zoe.properties", "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n"+jaas("scram.ScramLoginModule", login("zoe", "zoe's secret")))
	t.Setenv("JAVA_TOOL_OPTIONS", "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+token)

	const line, tools = "4", "org.apache.kafka.tools."
	topics := func(listener, config string, args ...string) (string, error) {
		return try(t, "", "./kafka.sh", append([]string{"tool", line, tools + "TopicCommand", "--bootstrap-server", s.addrs[listener], "--command-config", config}, args...)...)
	}
	for _, c := range []struct{ name, listener, config string }{
		{"plain", "kafka", plain}, {"scram", "kafkas", scram}, {"mutual", "kafkas", mutual}, {"bearer", "kafkas", bearer},
	} {
		if out, err := topics(c.listener, c.config, "--create", "--topic", "ann-"+c.name); err != nil {
			t.Errorf("%s: %s %v", c.name, out, err)
		}
	}
	// The producer (idempotent by default) and the consumer, in a group, by token.
	apache(t, "one\ntwo\n", line, tools+"ConsoleProducer", "--bootstrap-server", s.addrs["kafkas"], "--topic", "ann-bearer", "--producer.config", bearer)
	out := apache(t, "", line, tools+"consumer.ConsoleConsumer", "--bootstrap-server", s.addrs["kafkas"], "--topic", "ann-bearer", "--group", "ann-java",
		"--from-beginning", "--max-messages", "2", "--timeout-ms", "30000", "--consumer.config", bearer)
	if !strings.Contains(out, "one\ntwo\n") {
		t.Errorf("read %q", out)
	}

	// A user, and what it may do, by Kafka's tools alone.
	admin := func(class string, args ...string) string {
		t.Helper()
		return apache(t, "", line, class, append([]string{"--bootstrap-server", s.addrs["kafka"], "--command-config", plain}, args...)...)
	}
	admin("kafka.admin.ConfigCommand", "--alter", "--entity-type", "users", "--entity-name", "zoe", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=zoe's secret]")
	if out := admin("kafka.admin.ConfigCommand", "--describe", "--entity-type", "users", "--entity-name", "zoe"); !strings.Contains(out, "SCRAM-SHA-256=iterations=8192") {
		t.Errorf("described as %s", out)
	}
	if out, err := topics("kafka", zoe, "--create", "--topic", "zoe-1"); err == nil || !strings.Contains(out+err.Error(), "TopicAuthorizationException") && !strings.Contains(out+err.Error(), "uthoriz") {
		t.Errorf("before there is a rule: %s %v", out, err)
	}
	const acls = tools + "AclCommand"
	admin(acls, "--add", "--allow-principal", "User:zoe", "--producer", "--topic", "zoe-", "--resource-pattern-type", "prefixed")
	if out := admin(acls, "--list", "--principal", "User:zoe"); !strings.Contains(out, "operation=WRITE, permissionType=ALLOW") || !strings.Contains(out, "patternType=PREFIXED") {
		t.Errorf("listed as %s", out)
	}
	if out := tool(t, "", binary(t), "acl", "list", "--server", s.admin); !strings.Contains(out, "zoe-*") {
		t.Errorf("rivulet acl list: %s", out)
	}
	if out, err := topics("kafka", zoe, "--create", "--topic", "zoe-1"); err != nil {
		t.Errorf("with a rule: %s %v", out, err)
	}
	apache(t, "hello\n", line, tools+"ConsoleProducer", "--bootstrap-server", s.addrs["kafka"], "--topic", "zoe-1", "--producer.config", zoe)
	// The record that Kafka's tool made serves MQTT passwords, too.
	host, port := hostPort(s.addrs["mqtt"])
	tool(t, "", binary(t), "acl", "allow", "publish", "--principal", "zoe", "--mqtt", "zoe/#", "--server", s.admin)
	tool(t, "", "mosquitto_pub", "-h", host, "-p", port, "-u", "zoe", "-P", "zoe's secret", "-t", "zoe/x", "-m", "x", "-q", "1")
}
