//go:build interop

package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// started is a broker of the built program on an empty folder, ended with the test; it must end well.
func started(t *testing.T, args ...string) *process.Process {
	t.Helper()
	p, err := process.Rivulet(binary(t), filepath.Join(t.ArtifactDir(), "data"), args...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the broker:\n%s", p.Log())
		}
	})
	return p
}

// tool runs a peer's program and returns its standard output; it must end with 0 within a minute. stdin may be empty.
func tool(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	out, err := try(t, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// command is a tool's; what it leaves running, as kafka.sh does, must not keep its output open for ever.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// given is an environment variable that run.sh sets.
func given(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run interop/run.sh", name)
	}
	return v
}

// kcat reads a topic to its end: its lines "key value", those of a key in order.
func kcat(t *testing.T, addr, topic string, args ...string) map[string][]string {
	t.Helper()
	out := tool(t, "", "kcat", append([]string{"-b", addr, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k %s\n"}, args...)...)
	byKey := map[string][]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		byKey[key] = append(byKey[key], value)
	}
	return byKey
}

// numbered are n values for a source, in order; the last byte's parity is that of the number.
func numbered(source string, from, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("%s:%06d", source, from+i)
	}
	return values
}

func lines(values []string) string { return strings.Join(values, "\n") + "\n" }

func hostPort(addr string) (host, port string) {
	host, port, _ = strings.Cut(addr, ":")
	return host, port
}
