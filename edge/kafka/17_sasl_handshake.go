package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake: 0 to 1
//
//   - PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; OAUTHBEARER where tokens are configured.
//   - Version 0: what follows are bare tokens, each with its length before it. Version 1: SaslAuthenticate requests.
//   - Where no authentication is configured: ILLEGAL_SASL_STATE, as Kafka answers on a listener without SASL.
//   - A client that has logged in may do so again, before its login ends (KIP-368).
func saslHandshakeAPI() api {
	return api{key: kmsg.SASLHandshake, min: 0, max: 1, handle: serve((*conn).saslHandshake), beforeAuth: true}
}

func (c *conn) saslHandshake(req *kmsg.SASLHandshakeRequest) kmsg.Response {
	resp := respond[*kmsg.SASLHandshakeResponse](req)
	resp.SupportedMechanisms = []string{}
	a := c.s.o.Auth
	if a == nil || !a.Configured() || c.login.exchange != nil {
		c.endExchange()
		resp.ErrorCode = kerr.IllegalSaslState.Code
		return resp
	}
	resp.SupportedMechanisms = append(resp.SupportedMechanisms, a.Mechanisms()...)
	x, err := a.Begin(req.Mechanism, c.loginConn())
	if err != nil {
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		return resp
	}
	c.login.exchange, c.login.raw = x, req.Version == 0
	return resp
}
