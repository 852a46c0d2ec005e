package config

import (
	"fmt"
	"time"

	"rivulet/sync/bridge"
)

// Bridge subscribes to another broker.
type Bridge struct {
	Name         string     `yaml:"name"`
	Broker       string     `yaml:"broker"`
	Subscribe    []string   `yaml:"subscribe"`
	QoS          int        `yaml:"qos,omitempty"`
	ClientID     string     `yaml:"client_id,omitempty"`
	User         string     `yaml:"user,omitempty"`
	PasswordFile string     `yaml:"password_file,omitempty"`
	TLS          *ClientTLS `yaml:"tls,omitempty"`
	Strip        string     `yaml:"strip,omitempty"`
	Prefix       string     `yaml:"prefix,omitempty"`
	Limit        Rate       `yaml:"limit,omitempty"`
	InFlight     int        `yaml:"in_flight,omitempty"`
	KeepAlive    Duration   `yaml:"keep_alive,omitempty"`
}

// Options are the bridge's, but for what has to be read from files.
func (b Bridge) Options() bridge.Options {
	return bridge.Options{
		Name: b.Name, URL: b.Broker, Subscribe: b.Subscribe, QoS: byte(b.QoS), ClientID: b.ClientID, User: b.User,
		Strip: b.Strip, Prefix: b.Prefix, LimitBytes: int64(b.Limit), InFlight: b.InFlight, KeepAlive: time.Duration(b.KeepAlive),
	}
}

func (k *checker) bridges() {
	seen, uplinks := map[string]bool{}, map[string]bool{}
	for _, u := range k.c.Sync {
		uplinks[u.Name] = true
	}
	for i, b := range k.c.Bridges {
		path := fmt.Sprintf("bridges[%d]", i)
		if b.QoS < 0 || b.QoS > 2 {
			k.fail(path+".qos", "%d is not 0, 1 or 2", b.QoS)
			continue
		}
		if err := bridge.Check(b.Options()); err != nil {
			k.fail(path, "%s", err)
		}
		if seen[b.Name] {
			k.fail(path+".name", "bridge %s is declared twice", b.Name)
		}
		if uplinks[b.Name] { // rivulet sync pause NAME
			k.fail(path+".name", "an uplink is called %s, too", b.Name)
		}
		seen[b.Name] = true
		if b.PasswordFile != "" && b.User == "" {
			k.fail(path+".password_file", "goes with user")
		}
		if t := b.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
			k.fail(path+".tls", "cert and key go together")
		}
		if b.InFlight < 0 || b.InFlight > 65535 {
			k.fail(path+".in_flight", "%d is not between 1 and 65535", b.InFlight)
		}
	}
}
