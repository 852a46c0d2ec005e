package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake: 0 to 1
//
//   - Version 0: what follows are bare tokens, each with its length before it. Version 1: SaslAuthenticate requests.
//   - Where no authentication is configured: ILLEGAL_SASL_STATE, as Kafka answers on a listener without SASL.
func saslHandshakeAPI() api {
	return api{key: kmsg.SASLHandshake, min: 0, max: 1, handle: serve((*conn).saslHandshake), beforeAuth: true}
}

func (c *conn) saslHandshake(req *kmsg.SASLHandshakeRequest) kmsg.Response {
	resp := respond[*kmsg.SASLHandshakeResponse](req)
	resp.SupportedMechanisms = []string{}
	if c.s.o.Authenticate == nil {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		return resp
	}
	resp.SupportedMechanisms = append(resp.SupportedMechanisms, mechanismPlain)
	if req.Mechanism != mechanismPlain {
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		return resp
	}
	c.sasl.mechanism = req.Mechanism
	c.sasl.raw = req.Version == 0
	return resp
}
