package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// DescribeUserScramCredentials: 0
//
// Mechanisms and iterations, never salts or keys; of all users when none is named. The users are those of `rivulet user`.
func describeUserSCRAMAPI() api {
	return api{
		key: kmsg.DescribeUserSCRAMCredentials, min: 0, max: 0, handle: serve((*conn).describeUserSCRAM),
		refuse: refuseDescribeUserSCRAM,
	}
}

// Kafka's numbers of SCRAM mechanisms (KIP-554).
const (
	scramSHA256 = 1
	scramSHA512 = 2
)

func scramName(mechanism int8) string {
	switch mechanism {
	case scramSHA256:
		return auth.SHA256
	case scramSHA512:
		return auth.SHA512
	}
	return ""
}

var (
	errNoCredential = errors.New("user has no SCRAM credential")
	errTwice        = errors.New("user is named twice")
)

func (c *conn) describeUserSCRAM(req *kmsg.DescribeUserSCRAMCredentialsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeUserSCRAMCredentialsResponse](req)
	if code, err := c.clusterCode(edge.OpClusterDescribe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code, message(err)
		return resp
	}
	named := map[string]int{}
	for _, u := range req.Users {
		named[u.Name]++
	}
	found := map[string]kmsg.DescribeUserSCRAMCredentialsResponseResult{}
	for _, u := range c.s.o.Auth.Users() {
		res := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		res.User = u.Name
		for _, cr := range u.Credentials {
			info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
			info.Mechanism, info.Iterations = scramSHA256, int32(cr.Iterations)
			if cr.Mechanism == auth.SHA512 {
				info.Mechanism = scramSHA512
			}
			res.CredentialInfos = append(res.CredentialInfos, info)
		}
		if len(res.CredentialInfos) == 0 {
			continue
		}
		found[u.Name] = res
		if len(req.Users) == 0 {
			resp.Results = append(resp.Results, res)
		}
	}
	for _, u := range req.Users {
		res, ok := found[u.Name]
		var err error
		switch {
		case named[u.Name] == 0:
			continue // told already
		case named[u.Name] > 1:
			res = kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
			res.ErrorCode, err = kerr.DuplicateResource.Code, errTwice
		case !ok:
			res = kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
			res.ErrorCode, err = kerr.ResourceNotFound.Code, errNoCredential
		}
		named[u.Name] = 0
		res.User, res.ErrorMessage = u.Name, message(err)
		resp.Results = append(resp.Results, res)
	}
	return resp
}

func refuseDescribeUserSCRAM(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.DescribeUserSCRAMCredentialsResponse](r)
	resp.ErrorCode = code
	return resp
}
