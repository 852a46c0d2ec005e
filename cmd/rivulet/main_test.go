package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"rivulet/cmd/rivulet/config"
	"rivulet/examples/plugins/builtin"
)

// The test binary is the program, too, under the name rivulet in PATH.
func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"rivulet": main})
}

// leakFree looks for goroutines that tests left behind.
type leakFree struct{ m *testing.M }

func (l leakFree) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestScripts runs testdata/script: each verb against a broker in this process, with its exit status and what it says.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"broker": brokerCommand,
			"exits":  exitsCommand,
			"module": moduleCommand,
		},
	})
}

// broker [CONFIG]: starts one on free ports with its data in data/, and tells where by the variables that the program reads.
func brokerCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: broker [CONFIG]")
	}
	file := ""
	if len(args) == 1 {
		file = ts.MkAbs(args[0])
	}
	c, err := config.Load(file, nil)
	ts.Check(err)
	c.DataDir = ts.MkAbs("data")
	c.Listeners.MQTT.Addr, c.Listeners.Kafka.Addr, c.Listeners.HTTP.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	ts.Check(c.Check())
	s, err := startServer(context.Background(), c, slog.New(slog.DiscardHandler))
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Stop(context.Background())) })
	ts.Setenv("RIVULET_SERVER", "http://"+s.address("http"))
	ts.Setenv("MQTT", s.address("mqtt"))
	ts.Setenv("KAFKA", s.address("kafka"))
}

// exits STATUS COMMAND…: runs it and holds its exit status.
func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// module NAME FILE: writes a plugin.
func moduleCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: module NAME FILE")
	}
	wasm, ok := map[string][]byte{"identity": builtin.Identity(), "drop-cold": builtin.DropCold(20), "drop-half": builtin.DropHalf()}[args[0]]
	if !ok {
		ts.Fatalf("no module %s", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), wasm, 0o600))
}

// call runs the program in this process.
func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, new(bytes.Buffer), &out, &errs)
	return status, out.String(), errs.String()
}

// testServer is a broker for one test.
func testServer(t *testing.T, change func(*config.Config)) *server {
	t.Helper()
	c := demoConfig(t.TempDir(), "test")
	if change != nil {
		change(c)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := startServer(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
