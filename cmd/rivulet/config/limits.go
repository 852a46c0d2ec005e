package config

import (
	"time"

	"rivulet/edge/gate"
)

// ConnLimits bound connections of each protocol, and what they cost before their client has logged in. 0 is the default.
type ConnLimits struct {
	Connections           int      `yaml:"connections,omitempty"`
	ConnectionsPerAddress int      `yaml:"connections_per_address,omitempty"`
	Pending               int      `yaml:"pending,omitempty"` // have not logged in yet
	LoginTimeout          Duration `yaml:"login_timeout,omitempty"`
	PerSecond             int      `yaml:"per_second,omitempty"`             // new ones; more wait
	PerSecondPerAddress   int      `yaml:"per_second_per_address,omitempty"` // more are refused
	Burst                 int      `yaml:"burst,omitempty"`                  // after a pause, in all
	BurstPerAddress       int      `yaml:"burst_per_address,omitempty"`
}

// check refuses what would let nobody in.
func (k *checker) limits() {
	l := &k.c.Limits
	for key, value := range map[string]int{
		"connections": l.Connections, "connections_per_address": l.ConnectionsPerAddress, "pending": l.Pending,
		"per_second": l.PerSecond, "per_second_per_address": l.PerSecondPerAddress, "burst": l.Burst, "burst_per_address": l.BurstPerAddress,
	} {
		if value < 0 || value > 1<<24 {
			k.fail("limits."+key, "%d is not between 1 and %d", value, 1<<24)
		}
	}
	if d := time.Duration(l.LoginTimeout); d != 0 && (d < time.Second || d > time.Hour) {
		k.fail("limits.login_timeout", "%s is not between 1s and 1h", d)
	}
}

// smallPending is the small profile's: each may hold a packet of 128 KiB in memory.
const smallPending = 256

// mqttSlack lets some MQTT clients beyond mqtt.max_connections hear why they are refused.
const mqttSlack = 64

// Gate is what the limits come down to. Behind a proxy, what is about an address holds for the client's, once the proxy has told it.
func (c *Config) Gate(protocol string, proxied bool) gate.Options {
	l := c.Limits
	o := gate.Options{
		Connections: l.Connections, PerAddress: l.ConnectionsPerAddress, Pending: l.Pending, PendingTime: time.Duration(l.LoginTimeout),
		Rate: l.PerSecond, RateAddress: l.PerSecondPerAddress, Burst: l.Burst, BurstAddress: l.BurstPerAddress,
	}
	if o.Pending == 0 && c.Storage.Profile == "small" {
		o.Pending = smallPending
	}
	if protocol == "mqtt" && o.Connections == 0 && c.MQTT.MaxConnections > 0 {
		o.Connections = c.MQTT.MaxConnections + mqttSlack
	}
	o.Proxied = proxied
	return o
}
