package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
	edgehttp "rivulet/edge/http"
)

var errNothingToReload = errors.New("this broker was not started with a configuration that could be read again")

// reload reads the configuration again and lets hold what can change while connections stay: users, rules, tokens' keys,
// certificates, bridges. Everything is read and checked before anything changes, so that a bad file changes nothing.
func (s *server) reload(context.Context) (edgehttp.Reloaded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	out := edgehttp.Reloaded{Changed: []string{}, Restart: []string{}}
	if s.load == nil {
		return out, errNothingToReload
	}
	c, err := s.load()
	if err != nil {
		return out, fmt.Errorf("reload: %w; nothing was changed", err)
	}
	authority, err := c.Authority()
	if err != nil {
		return out, fmt.Errorf("reload: %w; nothing was changed", err)
	}
	// Those of listeners that are open and stay so.
	fresh := make([]*tls.Config, len(s.certs))
	for i, cert := range s.certs {
		l := c.Listeners.Named(cert.name)
		if l == nil || l.TLS == nil {
			continue
		}
		if fresh[i], err = serverTLS(*l.TLS); err != nil {
			return out, fmt.Errorf("reload: listener %s: %w; nothing was changed", cert.name, err)
		}
	}
	if err := checkBridges(c.Bridges); err != nil {
		return out, fmt.Errorf("reload: %w; nothing was changed", err)
	}
	if err := s.auth.Reload(authority); err != nil {
		return out, fmt.Errorf("reload: %w; nothing was changed", err)
	}
	out.Changed = append(out.Changed, "auth")
	for i, cert := range s.certs {
		if fresh[i] != nil {
			cert.hold(fresh[i])
			out.Changed = append(out.Changed, "listeners."+cert.name+".tls")
		}
	}
	switch changed, err := s.bridges.change(c.Bridges); {
	case err != nil:
		return out, fmt.Errorf("reload: %w; the rest has changed", err)
	case changed:
		out.Changed = append(out.Changed, "bridges")
	}
	s.setLevel(c)
	out.Restart = differing(s.cfg, c)
	s.log.Info("configuration reloaded", "changed", strings.Join(out.Changed, ","), "needs_restart", strings.Join(out.Restart, ","))
	return out, nil
}

// readAgain says how the configuration is read again.
func (s *server) readAgain(load func() (*config.Config, error), setLevel func(*config.Config)) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.load, s.setLevel = load, setLevel
}

// differing names the sections that hold only after a restart.
func differing(running, wanted *config.Config) []string {
	list := []string{}
	for _, section := range []struct {
		name string
		a, b any
	}{
		{"edge", running.Edge, wanted.Edge},
		{"data_dir", running.DataDir, wanted.DataDir},
		{"listeners", withoutTLS(running.Listeners), withoutTLS(wanted.Listeners)},
		{"storage", running.Storage, wanted.Storage},
		{"topics", running.Topics, wanted.Topics},
		{"routes", running.Routes, wanted.Routes},
		{"plugins", running.Plugins, wanted.Plugins},
		{"sync", running.Sync, wanted.Sync},
	} {
		if !reflect.DeepEqual(section.a, section.b) {
			list = append(list, section.name)
		}
	}
	return list
}

// withoutTLS leaves whether a listener has TLS, but not which.
func withoutTLS(l config.Listeners) config.Listeners {
	for _, name := range config.ListenerNames() {
		if x := l.Named(name); x.TLS != nil {
			x.TLS = &config.TLS{}
		}
	}
	return l
}

func (p *program) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the broker read its configuration again",
		Long: `Have the broker read its configuration again, as SIGHUP does: users, access rules, keys of tokens, certificates of open
listeners, and bridges change without dropping a client's connection. A bad file is refused whole, and what held before still holds.`,
		Args: cobra.NoArgs,
	}
	r := p.remote(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var done edgehttp.Reloaded
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
			return err
		}
		p.note("reloaded: %s", strings.Join(done.Changed, ", "))
		if len(done.Restart) > 0 {
			p.note("these differ from what is running and need a restart: %s", strings.Join(done.Restart, ", "))
		}
		return nil
	}
	return cmd
}
