package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"rivulet/edge"
	"rivulet/storage"
)

// named is a listener with its key.
type named struct {
	*Listener
	name string
}

func (l *Listeners) all() []named {
	return []named{
		{&l.MQTT, "mqtt"},
		{&l.MQTTS, "mqtts"},
		{&l.WS, "ws"},
		{&l.WSS, "wss"},
		{&l.Kafka, "kafka"},
		{&l.Kafkas, "kafkas"},
		{&l.HTTP, "http"},
		{&l.HTTPS, "https"},
	}
}

// ListenerNames are the keys of listeners.
func ListenerNames() []string {
	var names []string
	for _, l := range (&Listeners{}).all() {
		names = append(names, l.name)
	}
	return names
}

// Named is the listener of a key, nil when there is no such key.
func (l *Listeners) Named(name string) *Listener {
	for _, x := range l.all() {
		if x.name == name {
			return x.Listener
		}
	}
	return nil
}

// NetworkListeners are the addresses that others than this machine can reach.
func (c *Config) NetworkListeners() []string {
	var list []string
	for _, l := range c.Listeners.all() {
		if host, _, err := net.SplitHostPort(l.Addr); err == nil && !loopback(host) {
			list = append(list, l.name+" "+l.Addr)
		}
	}
	return list
}

// checker collects what is wrong with values that fit their keys.
type checker struct {
	c    *Config
	errs Errors
}

func (k *checker) fail(path, format string, args ...any) {
	e := &Error{File: path, Text: fmt.Sprintf(format, args...)}
	if at, ok := k.c.at.of(path); ok {
		e = &Error{File: at.file, Line: at.line, Column: at.column, Text: path + ": " + e.Text}
	}
	k.errs = append(k.errs, e)
}

// Check finds what does not fit together. The error is Errors.
func (c *Config) Check() error {
	k := &checker{c: c}
	if c.Edge == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			k.fail("edge", "the host has no name; give this edge one")
		}
		c.Edge = host
	}
	k.listeners()
	k.limits()
	k.mqtt()
	k.storage()
	k.topics()
	for i, r := range c.Routes {
		if err := edge.CheckRoute(r.Edge()); err != nil {
			k.fail(fmt.Sprintf("routes[%d]", i), "%s", err)
		}
	}
	k.plugins()
	k.sync()
	k.bridges()
	k.auth()
	if len(k.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(k.errs, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Text, b.Text))
	})
	return k.errs
}

func (k *checker) listeners() {
	for _, l := range k.c.Listeners.all() {
		path := "listeners." + l.name
		if !l.Open() {
			if l.TLS != nil && l.Addr != Off {
				k.fail(path, "addr is missing")
			}
			continue
		}
		k.mqttListener(path, l)
		if strings.HasPrefix(l.Addr, "unix:") {
			if l.Socket() == "" {
				k.fail(path+".addr", "unix: needs the path of a socket, as in unix:mqtt.sock")
			}
			if l.TLS != nil {
				k.fail(path+".tls", "a unix socket needs none: only this machine reaches it")
			}
			continue // who may open the file may connect
		}
		host, port, err := net.SplitHostPort(l.Addr)
		if n, e := strconv.Atoi(port); err != nil || e != nil || n < 0 || n > 65535 {
			k.fail(path+".addr", "%q is not HOST:PORT", l.Addr)
			continue
		}
		if !k.c.Auth.Configured() && !loopback(host) {
			k.fail(path+".addr", "%s is open to the network and nobody has to log in; listen on 127.0.0.1, or say auth: {anonymous: true}; to have users log in, say auth: {anonymous: false} and make some with rivulet user add", l.Addr)
		}
		secured := strings.HasSuffix(l.name, "s") && l.name != "ws"
		switch {
		case secured && (l.TLS == nil || l.TLS.Cert == "" || l.TLS.Key == ""):
			k.fail(path, "needs tls: {cert: FILE, key: FILE}")
		case !secured && l.TLS != nil:
			k.fail(path+".tls", "%s is not encrypted; use listeners.%ss", l.name, l.name)
		}
		if t := l.TLS; t != nil && t.CRL != "" && t.ClientCA == "" {
			k.fail(path+".tls.crl", "goes with client_ca, whose certificates it revokes")
		}
		if l.Advertised == "" {
			continue
		}
		if !strings.HasPrefix(l.name, "kafka") {
			k.fail(path+".advertised", "only Kafka's clients are told an address")
		} else if host, _, err := net.SplitHostPort(l.Advertised); err != nil || host == "" {
			k.fail(path+".advertised", "%q is not HOST:PORT", l.Advertised)
		}
	}
}

// mqttListener checks what only listeners for MQTT have.
func (k *checker) mqttListener(path string, l named) {
	web := l.name == "ws" || l.name == "wss"
	if !web && l.name != "mqtt" && l.name != "mqtts" {
		switch {
		case l.ProxyProtocol:
			k.fail(path+".proxy_protocol", "only MQTT's listeners take it")
		case strings.HasPrefix(l.Addr, "unix:"):
			k.fail(path+".addr", "only listeners.mqtt and listeners.ws may be unix sockets")
		}
	}
	for i, o := range l.Origins {
		u, err := url.Parse(o)
		switch {
		case !web:
			k.fail(path+".origins", "only listeners.ws and listeners.wss are for web pages")
		case o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != ""):
			k.fail(fmt.Sprintf("%s.origins[%d]", path, i), "%q is not like https://dashboard.example", o)
		}
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (k *checker) storage() {
	if size, ok := errors.AsType[*storage.BudgetError](k.c.Storage.Options().Check()); ok {
		k.fail("storage.max_bytes", "%s %s", k.c.Storage.MaxBytes, size.Hint(func(n int64) string { return Size(n).String() }))
	}
}

func (k *checker) topics() {
	seen := map[string]bool{}
	for i, t := range k.c.Topics {
		path := fmt.Sprintf("topics[%d]", i)
		if err := edge.CheckTopicName(t.Name); err != nil {
			k.fail(path+".name", "%s", err)
		} else if edge.Internal(t.Name) {
			k.fail(path+".name", "names that begin with _rivulet are the broker's own")
		} else if seen[t.Name] {
			k.fail(path+".name", "topic %s is declared twice", t.Name)
		}
		seen[t.Name] = true
		if t.Partitions < 0 || t.Partitions > 10000 {
			k.fail(path+".partitions", "%d is not between 1 and 10000", t.Partitions)
		}
		if t.Priority < 0 || t.Priority > 9 {
			k.fail(path+".priority", "%d is not between 0 and 9", t.Priority)
		}
		if t.Ack == "central" {
			k.fail(path+".ack", "not supported yet: acknowledging after the centre has it")
		}
		for key, value := range t.Config {
			if err := edge.CheckTopicConfig(map[string]string{key: value}); err != nil {
				k.fail(path+".config."+key, "%s", err)
			}
		}
	}
}

func (k *checker) plugins() {
	seen := map[[2]string]bool{}
	files := map[string]string{}
	for i, p := range k.c.Plugins {
		path := fmt.Sprintf("plugins[%d]", i)
		if err := edge.CheckTopicName(p.Name); err != nil {
			k.fail(path+".name", "plugin name: %s", err)
		}
		if p.File == "" {
			k.fail(path, "file is missing")
		} else if other, ok := files[p.Name]; ok && other != p.File {
			k.fail(path+".file", "plugin %s is %s above", p.Name, other)
		}
		files[p.Name] = p.File
		for _, t := range append([]string{p.Topic}, p.Output...) {
			if err := edge.CheckTopicName(t); err != nil {
				k.fail(path+".topic", "%s", err)
			}
		}
		if p.Stage == "stream" {
			k.fail(path+".stage", "not supported yet: plugins behind the log")
		}
		if seen[[2]string{p.Name, p.Topic}] {
			k.fail(path, "plugin %s is attached to %s twice", p.Name, p.Topic)
		}
		seen[[2]string{p.Name, p.Topic}] = true
	}
}

func (k *checker) sync() {
	seen := map[string]bool{}
	for i, u := range k.c.Sync {
		path := fmt.Sprintf("sync[%d]", i)
		switch {
		case u.Name == "":
			k.fail(path, "name is missing")
		case seen[u.Name]:
			k.fail(path+".name", "uplink %s is declared twice", u.Name)
		}
		seen[u.Name] = true
		if u.Delivery == "idempotent" {
			k.fail(path+".delivery", "not supported yet: idempotent; transactional is exactly once")
		}
		if u.Size > 8<<20 {
			k.fail(path+".size", "%s is more than 8MiB", u.Size)
		}
		k.cluster(path+".kafka", u.Kafka)
		if len(u.Up) == 0 {
			k.fail(path, "up is missing: say which topics go to the centre")
		}
		for j, up := range u.Up {
			upPath := fmt.Sprintf("%s.up[%d]", path, j)
			switch {
			case up.Topic == "":
				k.fail(upPath, "topic is missing")
			case strings.Contains(up.Topic, "*") && up.To != "" && !strings.Contains(up.To, "{topic}"):
				k.fail(upPath+".to", "%s may match many topics, so %q needs {topic}", up.Topic, up.To)
			}
			if up.Priority < 0 || up.Priority > 9 {
				k.fail(upPath+".priority", "%d is not between 0 and 9", up.Priority)
			}
		}
	}
}

func (k *checker) cluster(path string, c Kafka) {
	if len(c.Brokers) == 0 {
		k.fail(path, "brokers are missing: give HOST:PORT of one or more")
	}
	for j, b := range c.Brokers {
		if host, _, err := net.SplitHostPort(b); err != nil || host == "" {
			k.fail(fmt.Sprintf("%s.brokers[%d]", path, j), "%q is not HOST:PORT", b)
		}
	}
	if t := c.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
		k.fail(path+".tls", "cert and key go together")
	}
	if s := c.SASL; s != nil && (s.Mechanism == "" || s.User == "" || s.PasswordFile == "") {
		k.fail(path+".sasl", "mechanism, user and password_file are all needed")
	}
}
