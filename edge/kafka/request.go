package kafka

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// header is what stands before every request.
type header struct {
	key, version int16
	corr         int32
	client       string
}

// parseRequest decodes a request: its header, and its body when key and version are known to the codec. A nil request
// without an error is one whose version the codec does not know.
func parseRequest(body []byte) (header, kmsg.Request, error) {
	r := kbin.Reader{Src: body}
	h := header{key: r.Int16(), version: r.Int16(), corr: r.Int32()}
	if id := r.NullableString(); id != nil {
		h.client = *id
	}
	if !r.Ok() {
		return h, nil, fmt.Errorf("request header is damaged (key %d version %d)", h.key, h.version)
	}
	req := kmsg.RequestForKey(h.key)
	if req == nil {
		return h, nil, fmt.Errorf("unknown request key %d version %d", h.key, h.version)
	}
	if h.version < 0 || h.version > req.MaxVersion() {
		return h, nil, nil
	}
	req.SetVersion(h.version)
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
		if !r.Ok() {
			return h, nil, fmt.Errorf("request header is damaged (key %d version %d)", h.key, h.version)
		}
	}
	if err := req.ReadFrom(r.Src); err != nil {
		return h, nil, fmt.Errorf("%s request version %d is damaged: %w", kmsg.NameForKey(h.key), h.version, err)
	}
	return h, req, nil
}

// handle decodes the request in sl and sends sl on its way. An error ends the connection, with sl still the caller's.
func (c *conn) handle(sl *slot) error {
	if c.sasl.raw {
		return c.saslToken(sl)
	}
	h, req, err := parseRequest(*sl.body)
	if err != nil {
		return err
	}
	sl.corr = h.corr
	if h.client != c.who.Client {
		who := *c.who
		who.Client = strings.Clone(h.client)
		c.who = &who
	}
	api := c.s.apis.find(h.key)
	if api == nil {
		return fmt.Errorf("%s (key %d) is not served: %s", kmsg.NameForKey(h.key), h.key, reasonFor(h.key))
	}
	if req == nil || h.version < api.min || h.version > api.max {
		return c.refuseVersion(sl, api, h, req)
	}
	if c.mustAuthenticate() && !api.beforeAuth {
		return fmt.Errorf("%s before authentication", kmsg.NameForKey(h.key))
	}
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		return c.produce(sl, p)
	}
	c.produces.Wait()
	if f, ok := req.(*kmsg.FetchRequest); ok {
		c.fetchRecords(sl, f)
		return nil
	}
	resp := api.handle(c, req)
	if resp == nil {
		return errHangUp
	}
	if api.keeps {
		sl.body = nil // left to the collector
	}
	c.answer(sl, resp)
	return nil
}

func (c *conn) answer(sl *slot, resp kmsg.Response) {
	sl.resp = resp
	sl.flexible = resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions)
	sl.hangUp = c.sasl.hangUp
	c.send(sl, true)
}

// allow asks the authorizer.
func (c *conn) allow(op edge.Op, resource string) bool { return c.s.broker.Allow(c.who, op, resource) }
