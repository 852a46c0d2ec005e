// Package process runs brokers as programs of their own: it starts them, knows when they are ready, and ends them by their process, with
// SIGTERM or as a power cut would.
//
// One goroutine a process reads its output and reaps it. Ready and Ended are closed once; what they guard may be read after.
package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that was started.
type Process struct {
	// Ready is closed when the program said so. The addresses and Took are set before.
	Ready             chan struct{}
	MQTT, Kafka, HTTP string
	Took              time.Duration // from the start to ready

	// Ended is closed when the program has ended, with err set before.
	Ended chan struct{}
	err   error

	says map[string]any // the line that made it ready
	cmd  *exec.Cmd
	from time.Time

	mu  sync.Mutex
	log bytes.Buffer
}

// Start starts a command; its standard output and error are the log. A line that says msg=ready in JSON, as rivulet's does, makes it
// ready; a program that says no such thing is made ready by its caller with SetReady.
func Start(cmd *exec.Cmd) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	p := &Process{Ready: make(chan struct{}), Ended: make(chan struct{}), cmd: cmd, from: time.Now()}
	err = cmd.Start()
	if err = errors.Join(err, write.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), errors.Join(err, read.Close()))
	}
	go p.follow(read)
	return p, nil
}

func (p *Process) follow(read io.ReadCloser) {
	defer read.Close()
	lines := bufio.NewReader(read)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		p.log.Write(line)
		p.mu.Unlock()
		var says struct{ Msg, MQTT, Kafka, HTTP string }
		if json.Unmarshal(line, &says) == nil && says.Msg == "ready" {
			p.MQTT, p.Kafka, p.HTTP = says.MQTT, says.Kafka, says.HTTP
			_ = json.Unmarshal(line, &p.says) // it just was
			p.SetReady()
		}
		if err != nil {
			break
		}
	}
	p.err = p.cmd.Wait()
	close(p.Ended)
}

// SetReady says that the program is ready; it is called once.
func (p *Process) SetReady() {
	p.Took = time.Since(p.from)
	close(p.Ready)
}

// Await waits until the program is ready. When it ends before, or ctx does, it is ended and the error holds its log.
func (p *Process) Await(ctx context.Context) error {
	select {
	case <-p.Ready:
		return nil
	case <-p.Ended:
		return fmt.Errorf("%s ended before it was ready: %w\n%s", filepath.Base(p.cmd.Path), p.err, p.Log())
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("wait for %s: %w\n%s", filepath.Base(p.cmd.Path), ctx.Err(), p.Log())
	}
}

// Address is that of a listener by its name, "" when it is not open. The program is ready.
func (p *Process) Address(listener string) string {
	addr, _ := p.says[listener].(string)
	return addr
}

// Log is what the program has printed so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the program with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it fails when the program has ended
	<-p.Ended
}

// Stop asks the program to end with SIGTERM; an exit status other than 0 is an error, as is taking more than 20 s.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.cmd.Path), err)
	}
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	select {
	case <-p.Ended:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w\n%s", filepath.Base(p.cmd.Path), p.err, p.Log())
		}
		return nil
	case <-patience.C:
		p.Kill()
		return fmt.Errorf("%s did not end within 20 s of SIGTERM\n%s", filepath.Base(p.cmd.Path), p.Log())
	}
}

// Anonymous is the memory that the program has for itself, RssAnon; 0 where /proc does not tell.
func (p *Process) Anonymous() int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64) // 0 when it is no number
			return n << 10
		}
	}
	return 0
}

// Usage is the CPU time that the program has used, and its resident memory; zeros where /proc does not tell.
func (p *Process) Usage() (cpu time.Duration, rss int64) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "stat"))
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
