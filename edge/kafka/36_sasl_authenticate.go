package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge/auth"
)

// SaslAuthenticate: 0 to 2
//
//   - A failure is answered with its code, and the connection closed behind it. What exactly was wrong is in the audit log.
//   - From version 1 the answer says how long the login lasts: until the token or the certificate expires. What comes later, but
//     for another login, ends the connection (KIP-368). Another login must be by the same mechanism for the same user.
func saslAuthenticateAPI() api {
	return api{key: kmsg.SASLAuthenticate, min: 0, max: 2, handle: serve((*conn).saslAuthenticate), beforeAuth: true}
}

func (c *conn) saslAuthenticate(req *kmsg.SASLAuthenticateRequest) kmsg.Response {
	resp := respond[*kmsg.SASLAuthenticateResponse](req)
	resp.SASLAuthBytes = []byte{}
	if c.login.exchange == nil || c.login.raw {
		text := "no SaslHandshake before it, or no authentication is configured"
		resp.ErrorCode, resp.ErrorMessage = kerr.IllegalSaslState.Code, &text
		return resp
	}
	answer, err := c.token(req.SASLAuthBytes)
	if answer != nil {
		resp.SASLAuthBytes = answer
	}
	if err != nil {
		text := "authentication failed: " + refusal(err)
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &text
		c.login.hangUp = true
		return resp
	}
	if c.login.exchange == nil {
		resp.SessionLifetimeMillis = c.lifetime()
	}
	return resp
}

// refusal is what a client may know of why it was refused.
func refusal(err error) string {
	for _, known := range []error{auth.ErrThrottled, errOtherUser} {
		if errors.Is(err, known) {
			return err.Error()
		}
	}
	return auth.ErrDenied.Error()
}
