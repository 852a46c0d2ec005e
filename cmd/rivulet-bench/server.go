package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// server is a broker that this program started, in a folder of its own.
type server struct {
	cmd   *exec.Cmd
	mqtt  string
	kafka string
	ready time.Duration // from the start to listening
	ended chan error
	log   *bytes.Buffer // read it after ended
}

// startRivulet starts the binary on free ports and waits for its ready line.
func startRivulet(ctx context.Context, binary, dir string, args ...string) (*server, error) {
	args = append([]string{
		"serve", "--data-dir", filepath.Join(dir, "data"), "--log-format", "json",
		"--mqtt", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0",
	}, args...)
	s := &server{cmd: exec.Command(binary, args...), ended: make(chan error, 1), log: new(bytes.Buffer)}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	s.cmd.Stdout, s.cmd.Stderr = write, write
	from := time.Now()
	err = s.cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("start rivulet: %w", err)
	}
	ready := make(chan [2]string, 1)
	go func() {
		defer read.Close()
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var line struct{ Msg, MQTT, Kafka string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				s.ready = time.Since(from)
				ready <- [2]string{line.MQTT, line.Kafka}
			}
			s.log.Write(lines.Bytes())
			s.log.WriteByte('\n')
		}
		s.ended <- s.cmd.Wait()
	}()
	select {
	case at := <-ready:
		s.mqtt, s.kafka = at[0], at[1]
		return s, nil
	case err := <-s.ended:
		return nil, fmt.Errorf("rivulet ended before it was ready: %w\n%s", err, s.log)
	case <-ctx.Done():
		s.cmd.Process.Kill()
		<-s.ended
		return nil, fmt.Errorf("wait for rivulet: %w", ctx.Err())
	}
}

// startMosquitto starts the peer without persistence: what it acknowledges lives in its memory.
func startMosquitto(ctx context.Context, binary, dir string) (*server, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write mosquitto.conf: %w", err)
	}
	s := &server{cmd: exec.Command(binary, "-c", conf), mqtt: addr, ended: make(chan error, 1), log: new(bytes.Buffer)}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	from := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start mosquitto: %w", err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := wire.Dial(ctx, addr, "bench-probe"); err == nil {
			conn.Close()
			s.ready = time.Since(from)
			return s, nil
		}
		select {
		case <-poll.C:
		case err := <-s.ended:
			return nil, fmt.Errorf("mosquitto ended before it was ready: %w\n%s", err, s.log)
		case <-ctx.Done():
			s.cmd.Process.Kill()
			<-s.ended
			return nil, fmt.Errorf("wait for mosquitto: %w", ctx.Err())
		}
	}
}

// freeAddr is a port that is free now, for a peer that must be told its number.
func freeAddr(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// stop asks the server to end, and ends it after a while.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop broker: %w", err)
	}
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	select {
	case err := <-s.ended:
		if err != nil {
			return fmt.Errorf("broker ended badly: %w\n%s", err, s.log)
		}
		return nil
	case <-patience.C:
		s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("broker did not end within 20 s of SIGTERM\n%s", s.log)
	}
}

// usage is the CPU time that the server has used, and its resident memory; zeros where /proc does not tell.
func (s *server) usage() (cpu time.Duration, rss int64) {
	proc := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0, 0
	}
	// The name in parentheses may hold spaces; behind it come field 3 and on.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0
		}
		cpu += time.Duration(n) * tick
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		return cpu, 0
	}
	return cpu, pages * int64(os.Getpagesize())
}
