package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	edgehttp "rivulet/edge/http"
	"rivulet/storage"
	"rivulet/sync/mirror"
)

// uplinks runs the configured uplinks and shows them to the API.
type uplinks struct{ links[*mirror.Uplink] }

func newUplinks(log *slog.Logger) *uplinks {
	return &uplinks{links[*mirror.Uplink]{run: func(ctx context.Context, name string, u *mirror.Uplink) {
		if err := u.Run(ctx); err != nil {
			log.Error("uplink ended", "uplink", name, "err", err)
		}
	}}}
}

// wantedUplinks reads the files that the uplinks name, and makes each, which does nothing before it runs.
func wantedUplinks(cfg *config.Config, b *edge.Broker, log *slog.Logger) ([]wanted[*mirror.Uplink], error) {
	var list []wanted[*mirror.Uplink]
	for i, c := range cfg.Sync {
		w := wanted[*mirror.Uplink]{name: c.Name}
		o, err := uplinkOptions(c)
		o.Broker, o.Edge, o.Log = b, cfg.Edge, log
		var u *mirror.Uplink
		if err == nil {
			u, err = mirror.New(o)
		}
		if err == nil {
			w.print, err = printOf(c, c.Kafka.TLS)
		}
		if err != nil {
			return nil, cfg.At(fmt.Sprintf("sync[%d]", i), fmt.Errorf("uplink %s: %w", c.Name, err))
		}
		w.open = func() (*mirror.Uplink, error) { return u, nil }
		list = append(list, w)
	}
	return list, nil
}

func uplinkOptions(c config.Uplink) (mirror.Options, error) {
	o := mirror.Options{
		Name: c.Name, Brokers: c.Kafka.Brokers, Delivery: mirror.Delivery(c.Delivery),
		OnLostPosition: mirror.OnLostPosition(c.OnLostPosition), Takeover: c.Takeover,
		LimitBytes: int64(c.Limit), Age: time.Duration(c.Age), Size: int(c.Size),
	}
	for _, up := range c.Up {
		o.Up = append(o.Up, mirror.Rule{Topic: up.Topic, To: up.To, Priority: up.Priority})
	}
	if c.Kafka.TLS != nil {
		tc, err := clientTLS(c.Kafka.TLS)
		if err != nil {
			return o, err
		}
		o.KgoOpts = append(o.KgoOpts, kgo.DialTLSConfig(tc))
	}
	if s := c.Kafka.SASL; s != nil {
		m, err := mechanism(s)
		if err != nil {
			return o, err
		}
		o.KgoOpts = append(o.KgoOpts, kgo.SASL(m))
	}
	return o, nil
}

// mechanism reads the password again at every login, so that it can be changed without a restart.
func mechanism(s *config.SASL) (sasl.Mechanism, error) {
	if _, err := firstLine(s.PasswordFile); err != nil {
		return nil, err
	}
	scramAuth := func(context.Context) (scram.Auth, error) {
		pass, err := firstLine(s.PasswordFile)
		return scram.Auth{User: s.User, Pass: pass}, err
	}
	switch s.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Sha256(scramAuth), nil
	case "SCRAM-SHA-512":
		return scram.Sha512(scramAuth), nil
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		pass, err := firstLine(s.PasswordFile)
		return plain.Auth{User: s.User, Pass: pass}, err
	}), nil
}

func firstLine(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	if !lines.Scan() || strings.TrimSpace(lines.Text()) == "" {
		return "", fmt.Errorf("read password: the first line of %s is empty", file)
	}
	return strings.TrimRight(lines.Text(), "\r"), nil
}

// holds says which records of a partition some uplink has not brought to its centre yet: those from an offset on.
func (us *uplinks) holds(p *storage.Partition) (from int64, held bool) {
	for _, u := range us.all() {
		if at, ok := u.Holds(p); ok && (!held || at < from) {
			from, held = at, true
		}
	}
	return from, held
}

// mirrored says whether some uplink carries a topic.
func (s *server) mirrored(topic string) bool {
	return slices.ContainsFunc(s.uplinks.all(), func(u *mirror.Uplink) bool { return u.Carries(topic) })
}

// Status implements edgehttp.Uplinks.
func (us *uplinks) Status() []edgehttp.Uplink {
	var list []edgehttp.Uplink
	for _, u := range us.all() {
		st := u.Status()
		list = append(list, edgehttp.Uplink{Name: st.Name, Status: st, Figures: edgehttp.UplinkFigures{
			State: string(st.State), Lag: st.Lag, Txns: st.Txns, Aborted: st.Aborted, Records: st.Records, Bytes: st.Bytes,
			Gaps: st.Gaps, DeadLettered: st.DeadLettered,
		}})
	}
	return list
}

// Pause implements edgehttp.Uplinks.
func (us *uplinks) Pause(name string) bool { return us.with(name, (*mirror.Uplink).Pause) }

// Resume implements edgehttp.Uplinks.
func (us *uplinks) Resume(name string) bool { return us.with(name, (*mirror.Uplink).Resume) }
