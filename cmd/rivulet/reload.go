package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	"rivulet/edge/auth"
	edgehttp "rivulet/edge/http"
	"rivulet/sync/bridge"
	"rivulet/sync/mirror"
)

var errNothingToReload = errors.New("this broker was not started with a configuration that could be read again")

// reload reads the configuration again and lets hold what can change while connections stay. Everything is read and checked before
// anything changes, so that a bad file changes nothing. What the store refuses after that (it is full, or somebody made a topic meanwhile) ends
// the reload where it stands: the error says what has changed.
func (s *server) reload(ctx context.Context) (edgehttp.Reloaded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	out := edgehttp.Reloaded{Changed: []string{}, Restart: []string{}}
	if s.load == nil {
		return out, errNothingToReload
	}
	n, err := s.read(ctx)
	if err != nil {
		return out, fmt.Errorf("reload: %w; nothing was changed", err)
	}
	// Who gave up asking does not leave half of it undone.
	if err := s.adopt(context.WithoutCancel(ctx), n, &out); err != nil {
		held := "nothing was changed"
		if len(out.Changed) > 0 {
			held = "what has changed: " + strings.Join(out.Changed, ", ")
		}
		return out, fmt.Errorf("reload: %w; %s", err, held)
	}
	out.Restart = differing(s.cfg, n.cfg)
	s.log.Info("configuration reloaded", "changed", strings.Join(out.Changed, ","), "needs_restart", strings.Join(out.Restart, ","))
	return out, nil
}

// news is a configuration with all that it names, read and checked.
type news struct {
	cfg       *config.Config
	authority auth.Config
	certs     []*tls.Config // of s.certs; nil: its listener is not there any more, or has no TLS
	plugins   []pluginFile
	uplinks   []wanted[*mirror.Uplink]
	bridges   []wanted[*bridge.Bridge]
}

// read reads and checks everything, and changes nothing.
func (s *server) read(ctx context.Context) (n news, err error) {
	if n.cfg, err = s.load(); err != nil {
		return n, err
	}
	c := n.cfg
	if n.authority, err = c.Authority(); err != nil {
		return n, err
	}
	if err := s.auth.Check(n.authority); err != nil {
		return n, c.At("auth", err)
	}
	n.certs = make([]*tls.Config, len(s.certs))
	for i, cert := range s.certs {
		l := c.Listeners.Named(cert.name)
		if l == nil || l.TLS == nil {
			continue
		}
		if n.certs[i], err = serverTLS(*l.TLS); err != nil {
			return n, c.At("listeners."+cert.name+".tls", err)
		}
	}
	for i, t := range c.Topics {
		if err := s.broker.CheckDeclared(t.Edge()); err != nil {
			return n, c.At(fmt.Sprintf("topics[%d]", i), err)
		}
	}
	if n.plugins, err = readPlugins(c); err != nil {
		return n, err
	}
	if err := checkPlugins(ctx, s.broker, c, n.plugins); err != nil {
		return n, err
	}
	// The edge's id is the running one: it is part of how the centre knows an uplink.
	as := *c
	as.Edge = s.cfg.Edge
	if n.uplinks, err = wantedUplinks(&as, s.broker, s.log); err != nil {
		return n, err
	}
	n.bridges, err = wantedBridges(c, s.broker, s.log)
	return n, err
}

// adopt lets it hold, what may fail first. s.cfg is the running configuration afterwards: the new one in the sections that hold, the old one in
// the others.
func (s *server) adopt(ctx context.Context, n news, out *edgehttp.Reloaded) error {
	running := *s.cfg
	s.cfg = &running
	changed := func(section string) { out.Changed = append(out.Changed, section) }
	for i, t := range n.cfg.Topics {
		did, err := s.broker.DeclareTopic(ctx, t.Edge())
		if did && !slices.Contains(out.Changed, "topics") {
			changed("topics")
		}
		if err != nil {
			return n.cfg.At(fmt.Sprintf("topics[%d]", i), err)
		}
	}
	running.Topics = n.cfg.Topics
	did, err := declarePlugins(ctx, s.broker, n.plugins)
	if did {
		changed("plugins")
	}
	if err != nil {
		return err
	}
	running.Plugins = n.cfg.Plugins
	if !reflect.DeepEqual(running.Routes, n.cfg.Routes) {
		if err := s.broker.SetRoutes(edgeRoutes(n.cfg)); err != nil {
			return n.cfg.At("routes", err)
		}
		changed("routes")
	}
	running.Routes = n.cfg.Routes
	if err := s.auth.Reload(n.authority); err != nil {
		return n.cfg.At("auth", err)
	}
	running.Auth = n.cfg.Auth
	s.warnStale(n.authority)
	changed("auth")
	for i, cert := range s.certs {
		if n.certs[i] != nil {
			cert.hold(n.certs[i])
			changed("listeners." + cert.name + ".tls")
		}
	}
	limits := n.cfg.Limits
	limits.LoginTimeout = running.Limits.LoginTimeout // the front ends keep theirs
	limitsChanged, mqttChanged := running.Limits != limits, running.MQTT != n.cfg.MQTT
	running.Limits, running.MQTT = limits, n.cfg.MQTT
	if limitsChanged || mqttChanged { // mqtt.max_connections is one of the gate's, too
		s.setBounds(&running)
	}
	if limitsChanged {
		changed("limits")
	}
	if mqttChanged {
		s.devices.SetLimits(s.mqttOptions())
		changed("mqtt")
	}
	did, err = s.uplinks.replace(n.uplinks)
	if did {
		s.store.SetMirrored(s.mirrored) // other topics may be mirrored now
		changed("sync")
	}
	running.Sync = n.cfg.Sync
	did, err2 := s.bridges.replace(n.bridges)
	if did {
		changed("bridges")
	}
	running.Bridges = n.cfg.Bridges
	s.setLevel(n.cfg)
	if running.Log != n.cfg.Log {
		changed("log")
	}
	running.Log = n.cfg.Log
	return errors.Join(err, err2)
}

func edgeRoutes(c *config.Config) (list []edge.Route) {
	for _, r := range c.Routes {
		list = append(list, r.Edge())
	}
	return list
}

// readAgain says how the configuration is read again.
func (s *server) readAgain(load func() (*config.Config, error), setLevel func(*config.Config)) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.load, s.setLevel = load, setLevel
}

// differing names what holds only after a restart.
func differing(running, wanted *config.Config) []string {
	list := []string{}
	for _, section := range []struct {
		name string
		a, b any
	}{
		{"edge", running.Edge, wanted.Edge},
		{"data_dir", running.DataDir, wanted.DataDir},
		{"listeners", withoutTLS(running.Listeners), withoutTLS(wanted.Listeners)},
		{"limits.login_timeout", running.Limits.LoginTimeout, wanted.Limits.LoginTimeout},
		{"storage", running.Storage, wanted.Storage},
		{"plugin_trust", running.PluginTrust, wanted.PluginTrust},
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
		Long: `Have the broker read its configuration again, as SIGHUP does: topics, routes, plugins, limits, what MQTT clients may do,
uplinks, bridges, users, access rules, keys of tokens, certificates of open listeners and the log's level change without dropping a client. A bad file is
refused whole, and what held before still holds. What needs a restart is named.`,
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
