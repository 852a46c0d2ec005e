package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/process"
)

// storm is devices that come back all at once, while somebody else publishes.
type storm struct {
	rivulet, dir string
	devices      int
	runs         int
	rate         int           // of the other one's messages, a second
	calm         time.Duration // for how long it is watched before
	live         bool          // the other one's messages are not logged
	crowded      bool          // the devices take a full share of the processors
	only         string
	progress     io.Writer
}

// stormWay is one way for devices to come in.
type stormWay struct {
	name  string
	login []string // arguments of rush
	rsa   bool     // the server's key; else it is ECDSA's
	known bool     // they have been there before
}

const stormPassword = "correct horse battery staple"

var stormWays = []stormWay{
	{name: "password, for the first time", login: []string{"--password", stormPassword}},
	{name: "password, seen before", login: []string{"--password", stormPassword}, known: true},
	{name: "SCRAM-SHA-256 (MQTT 5)", login: []string{"--password", stormPassword, "--scram"}},
	{name: "TLS, ECDSA P-256, client certificate", login: []string{"--certificate"}},
	{name: "TLS, ECDSA P-256, password for the first time", login: []string{"--tls", "--password", stormPassword}},
	{name: "TLS, RSA 2048, password seen before", login: []string{"--tls", "--password", stormPassword}, rsa: true, known: true},
}

// stormLine is what one way took.
type stormLine struct {
	in     time.Duration
	cpu    time.Duration // of the broker meanwhile
	before latencies
	during latencies
	beside latencies // while as many came in elsewhere
	failed int
}

type latencies struct{ p50, p99, worst time.Duration }

const stormConfig = `listeners:
  mqtts: {addr: 127.0.0.1:0, tls: {cert: server.pem, key: server.key, client_ca: ca.pem, client_auth: optional}}
auth:
  users_file: users.yaml
  acl: [{allow: all}]
limits: {connections_per_address: 60000, per_second_per_address: 60000, burst_per_address: 60000}
`

// prepare makes the broker's folder: certificates, users, configuration.
func (s *storm) prepare(ctx context.Context, dir string, w stormWay) error {
	var err error
	if w.rsa {
		err = rsaCertificate(dir)
	} else {
		err = exec.CommandContext(ctx, s.rivulet, "tls", "init", dir, "--host", "localhost", "--client", "device").Run()
	}
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	salted, err := stormSalted(stormPassword)
	if err != nil {
		return err
	}
	credential := stormCredential(salted)
	var users strings.Builder
	fmt.Fprintf(&users, "users:\n  - {name: other, scram: [%q]}\n", credential)
	for i := range s.devices {
		fmt.Fprintf(&users, "  - {name: device-%d, scram: [%q]}\n", i, credential)
	}
	config := stormConfig
	if s.live {
		config += "routes: [{mqtt: other, store: none}]\n"
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(users.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "rivulet.yaml"), []byte(config), 0o600),
	)
}

// start starts a broker in a folder that is prepared.
func (s *storm) start(ctx context.Context, dir, data string) (*process.Process, error) {
	p, err := process.Rivulet(s.rivulet, filepath.Join(dir, data), "--config", filepath.Join(dir, "rivulet.yaml"))
	if err != nil {
		return nil, err
	}
	if err := p.Await(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// measure has the devices come in by one way, on a broker of its own; or elsewhere: on another broker than the other publisher's, which
// shows what the machine alone does to it.
func (s *storm) measure(ctx context.Context, w stormWay, elsewhere bool) (line stormLine, err error) {
	dir, err := os.MkdirTemp(s.dir, "rivulet-bench-")
	if err != nil {
		return line, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := s.prepare(ctx, dir, w); err != nil {
		return line, err
	}
	p, err := s.start(ctx, dir, "data")
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	stormed := p
	if elsewhere {
		if stormed, err = s.start(ctx, dir, "elsewhere"); err != nil {
			return line, err
		}
		defer func() { err = errors.Join(err, stormed.Stop()) }()
	}
	addr := stormed.MQTT
	args := append([]string{"--devices", strconv.Itoa(s.devices)}, w.login...)
	if w.rsa || slices.Contains(w.login, "--tls") || slices.Contains(w.login, "--certificate") {
		addr, args = stormed.Address("mqtts"), append(args, "--certs", dir)
	}
	args = append(args, "--addr", addr, "--crowded="+strconv.FormatBool(s.crowded))
	if w.known {
		if _, err := s.rush(ctx, args, nil); err != nil {
			return line, err
		}
	}
	other, err := newSteady(ctx, p.MQTT, "other", stormPassword, s.rate)
	if err != nil {
		return line, err
	}
	defer other.conn.Close()
	if _, err := other.run(ctx, time.After(time.Second)); err != nil { // it warms up
		return line, err
	}
	if line.before, err = other.run(ctx, time.After(s.calm)); err != nil {
		return line, err
	}
	cpu, _ := stormed.Usage()
	r, err := s.rush(ctx, args, func(in <-chan time.Time) error {
		line.during, err = other.run(ctx, in)
		return err
	})
	after, _ := stormed.Usage()
	line.cpu, line.in, line.failed = after-cpu, r.Took, r.Failed
	if r.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d devices did not get in; one of them: %s", r.Failed, s.devices, r.Err))
	}
	return line, err
}

// hashTime is that of one password on this machine, with nothing else to do: the median of many.
func hashTime() (time.Duration, error) {
	var all []time.Duration
	for range 101 {
		from := time.Now()
		if _, err := pbkdf2.Key(sha256.New, stormPassword, []byte(stormSalt), stormIterations, sha256.Size); err != nil {
			return 0, fmt.Errorf("hash password: %w", err)
		}
		all = append(all, time.Since(from))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// run measures every way, some times, in turn, and writes a table of medians.
func (s *storm) run(ctx context.Context) (string, error) {
	m, err := describeMachine(ctx, s.rivulet, "", s.dir)
	if err != nil {
		return "", err
	}
	hash, err := hashTime()
	if err != nil {
		return "", err
	}
	lines := make([][]stormLine, len(stormWays))
	for n := range s.runs {
		for i, w := range stormWays {
			if !strings.Contains(w.name, s.only) {
				continue
			}
			line, err := s.measure(ctx, w, false)
			if err != nil {
				return "", fmt.Errorf("%s: %w", w.name, err)
			}
			control, err := s.measure(ctx, w, true)
			if err != nil {
				return "", fmt.Errorf("%s, elsewhere: %w", w.name, err)
			}
			line.beside = control.during
			lines[i] = append(lines[i], line)
			fmt.Fprintf(s.progress, "%d %s: in after %v (CPU %v), p50 %v → %v, p99 %v → %v (elsewhere %v), worst %v → %v\n", n+1, w.name, line.in.Round(time.Millisecond), line.cpu,
				line.before.p50, line.during.p50, line.before.p99, line.during.p99, line.beside.p99, line.before.worst, line.during.worst)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores shared by broker, devices and the other publisher, Linux %s, %s; %s, %s. Medians of %d runs.\n\n", m.CPU, m.Cores, m.Kernel, m.FS, m.Rivulet, m.Go, s.runs)
	fmt.Fprintf(&b, "One password costs %.2f ms (PBKDF2, %d rounds), %d of them **%.2f s**.\n\n", ms(hash), stormIterations, s.devices, hash.Seconds()*float64(s.devices))
	fmt.Fprintf(&b, "| %d devices by | all in after | CPU of the broker | the other's p50, before → meanwhile | p99, before → meanwhile | × | elsewhere |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n", s.devices)
	for i, w := range stormWays {
		if len(lines[i]) == 0 {
			continue
		}
		mid := func(of func(stormLine) time.Duration) time.Duration {
			var all []time.Duration
			for _, l := range lines[i] {
				all = append(all, of(l))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		p99, p99d := mid(func(l stormLine) time.Duration { return l.before.p99 }), mid(func(l stormLine) time.Duration { return l.during.p99 })
		fmt.Fprintf(&b, "| %s | %.2f s | %.2f s | %.2f → %.2f ms | %.2f → %.2f ms | %.1f | %.2f ms |\n", w.name,
			mid(func(l stormLine) time.Duration { return l.in }).Seconds(), mid(func(l stormLine) time.Duration { return l.cpu }).Seconds(),
			ms(mid(func(l stormLine) time.Duration { return l.before.p50 })), ms(mid(func(l stormLine) time.Duration { return l.during.p50 })),
			ms(p99), ms(p99d), float64(p99d)/float64(max(p99, 1)), ms(mid(func(l stormLine) time.Duration { return l.beside.p99 })))
	}
	return b.String(), nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

func stormCommand() *cobra.Command {
	s := &storm{}
	var markdown string
	c := &cobra.Command{
		Use:   "storm",
		Short: "Devices that all come back at once, with passwords or TLS, and what another publisher notices",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if s.devices < 1 || s.runs < 1 || s.rate < 1 {
				return errors.Join(errUsage, errors.New("--devices, --runs and --rate are 1 at least"))
			}
			s.progress = c.ErrOrStderr()
			table, err := s.run(c.Context())
			if err != nil {
				return err
			}
			if markdown != "" {
				return replaceBlock(markdown, "storm", table)
			}
			fmt.Fprint(c.OutOrStdout(), table)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.rivulet, "rivulet", "bin/rivulet", "the binary")
	f.StringVar(&s.dir, "dir", ".", "folder on the disk in question")
	f.StringVar(&markdown, "markdown", "", "put the table into this file, between <!-- bench storm --> and <!-- /bench -->")
	f.IntVar(&s.devices, "devices", 1000, "how many come back")
	f.IntVar(&s.runs, "runs", 5, "how often each way is measured")
	f.IntVar(&s.rate, "rate", 1000, "messages a second of the other publisher")
	f.DurationVar(&s.calm, "calm", 5*time.Second, "for how long the other publisher is watched before")
	f.BoolVar(&s.live, "live", false, "the other publisher's messages are not logged (store: none), which leaves the disk out")
	f.BoolVar(&s.crowded, "crowded", false, "the devices take a full share of the processors; else they get what others leave, since on a site they have their own")
	f.StringVar(&s.only, "only", "", "ways that have this in their names")
	return c
}
