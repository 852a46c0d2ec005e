package main

import (
	"strings"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/gate"
)

// gate stands before a listener. The listeners of one protocol share one, so that a flood of MQTT clients leaves the API reachable;
// behind a proxy there is another, since its clients all have the proxy's address.
func (s *server) gate(listener string, proxied bool) *gate.Gate {
	protocol := map[string]string{"mqtts": "mqtt", "ws": "mqtt", "wss": "mqtt", "kafkas": "kafka", "https": "http"}[listener]
	if protocol == "" {
		protocol = listener
	}
	name := protocol
	if proxied {
		name += "-proxied"
	}
	g := s.gates[name]
	if g == nil {
		o := s.cfg.Gate(protocol, proxied)
		if protocol != "http" { // the way by which somebody would look what is going on
			o.Waiting = s.auth.Waiting
		}
		g = gate.New(o)
		if s.gates == nil {
			s.gates = map[string]*gate.Gate{}
		}
		s.gates[name] = g
	}
	return g
}

// setBounds has the limits of another configuration hold for connections that come from now on.
func (s *server) setBounds(c *config.Config) {
	for name, g := range s.gates {
		protocol, proxied := strings.CutSuffix(name, "-proxied")
		g.SetBounds(c.Gate(protocol, proxied))
	}
}
