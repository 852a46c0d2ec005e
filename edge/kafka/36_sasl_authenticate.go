package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslAuthenticate: 0 to 2
//
// A failure is answered with its code, and the connection closed behind it. A session lasts as long as its connection.
func saslAuthenticateAPI() api {
	return api{key: kmsg.SASLAuthenticate, min: 0, max: 2, handle: serve((*conn).saslAuthenticate), beforeAuth: true}
}

func (c *conn) saslAuthenticate(req *kmsg.SASLAuthenticateRequest) kmsg.Response {
	resp := respond[*kmsg.SASLAuthenticateResponse](req)
	resp.SASLAuthBytes = []byte{}
	if c.sasl.mechanism == "" {
		text := "no SaslHandshake before it, or no authentication is configured"
		resp.ErrorCode, resp.ErrorMessage = kerr.IllegalSaslState.Code, &text
		return resp
	}
	if err := c.authenticate(req.SASLAuthBytes); err != nil {
		text := "wrong user or password"
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &text
		c.sasl.hangUp = true
	}
	return resp
}
