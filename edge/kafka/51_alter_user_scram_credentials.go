package kafka

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// AlterUserScramCredentials: 0
//
//   - A user's changes are one commit, all or none, durable when it is answered. A user that is not there is made; one that is left
//     without credential and group is deleted.
//   - The client has hashed the password, so that a password that was too short or too plain cannot be told here.
//   - Iterations 4096 to 16384: else UNACCEPTABLE_CREDENTIAL. Users of a file: POLICY_VIOLATION.
func alterUserSCRAMAPI() api {
	return api{key: kmsg.AlterUserSCRAMCredentials, min: 0, max: 0, handle: serve((*conn).alterUserSCRAM)}
}

var errSalted = errors.New("credential lacks a salt or a salted password")

func (c *conn) alterUserSCRAM(req *kmsg.AlterUserSCRAMCredentialsRequest) kmsg.Response {
	resp := respond[*kmsg.AlterUserSCRAMCredentialsResponse](req)
	var users []string
	changes := map[string][]auth.CredentialChange{}
	codes, faults := map[string]int16{}, map[string]error{}
	touched := map[string]map[int8]bool{}
	note := func(user string, mechanism int8, ch auth.CredentialChange, code *kerr.Error, err error) {
		if touched[user] == nil {
			touched[user] = map[int8]bool{}
			users = append(users, user)
		}
		switch {
		case user == "":
			code, err = kerr.UnacceptableCredential, errors.New("user name is empty")
		case scramName(mechanism) == "":
			code, err = kerr.UnsupportedSaslMechanism, auth.ErrMechanism
		case touched[user][mechanism]:
			code, err = kerr.DuplicateResource, errTwice
		}
		touched[user][mechanism] = true
		if err != nil && faults[user] == nil {
			codes[user], faults[user] = code.Code, err
		}
		changes[user] = append(changes[user], ch)
	}
	for _, d := range req.Deletions {
		note(d.Name, d.Mechanism, auth.CredentialChange{User: d.Name, Drop: scramName(d.Mechanism)}, nil, nil)
	}
	for _, u := range req.Upsertions {
		cred, err := newCredential(&u)
		note(u.Name, u.Mechanism, auth.CredentialChange{User: u.Name, Credential: cred}, kerr.UnacceptableCredential, err)
	}
	code, refused := c.clusterCode(edge.OpAdmin)
	for _, user := range users {
		res := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		res.User = user
		switch {
		case refused != nil:
			res.ErrorCode, res.ErrorMessage = code, message(refused)
		case faults[user] != nil:
			res.ErrorCode, res.ErrorMessage = codes[user], message(faults[user])
		default:
			if _, err := c.s.o.Auth.PutCredentials(c.ctx(), changes[user]); err != nil {
				res.ErrorCode, res.ErrorMessage = c.credentialCode(err), message(err)
			} else {
				c.audit("alter credentials", user)
			}
		}
		resp.Results = append(resp.Results, res)
	}
	return resp
}

// newCredential owns its memory: the request's is used again.
func newCredential(u *kmsg.AlterUserSCRAMCredentialsRequestUpsertion) (auth.Credential, error) {
	if len(u.Salt) == 0 || len(u.SaltedPassword) == 0 {
		return auth.Credential{}, errSalted
	}
	return auth.CredentialOfSalted(scramName(u.Mechanism), slices.Clone(u.Salt), int(u.Iterations), slices.Clone(u.SaltedPassword))
}

func (c *conn) credentialCode(err error) int16 {
	switch {
	case errors.Is(err, auth.ErrNoCredential):
		return kerr.ResourceNotFound.Code
	case errors.Is(err, auth.ErrInvalid):
		return kerr.UnacceptableCredential.Code
	}
	return c.securityCode(err)
}
