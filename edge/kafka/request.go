package kafka

import (
	"fmt"

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

// parseHeader decodes what stands before the body of every request, but for the tagged fields of a flexible one.
func parseHeader(request []byte) (h header, body []byte, err error) {
	r := kbin.Reader{Src: request}
	h = header{key: r.Int16(), version: r.Int16(), corr: r.Int32()}
	if id := r.NullableString(); id != nil {
		h.client = *id
	}
	if !r.Ok() {
		return h, nil, fmt.Errorf("request header is damaged (key %d version %d)", h.key, h.version)
	}
	return h, r.Src, nil
}

// parseRequest decodes the body of a request. A nil request without an error is one of a version that is not served and
// that cannot be decoded safely.
func (a *api) parseRequest(h header, body []byte) (kmsg.Request, error) {
	req := a.key.Request()
	if h.version < 0 || h.version > req.MaxVersion() {
		return nil, nil
	}
	req.SetVersion(h.version)
	fields, ok := a.shapeOf(h.version)
	if !ok {
		return nil, nil
	}
	if req.IsFlexible() {
		r := kbin.Reader{Src: body}
		walkTags(&r)
		if !r.Ok() {
			return nil, fmt.Errorf("request header is damaged (key %d version %d)", h.key, h.version)
		}
		body = r.Src
	}
	if err := checkShape(body, fields, req.IsFlexible()); err != nil {
		return nil, fmt.Errorf("%s request version %d is damaged: %w", a.key.Name(), h.version, err)
	}
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s request version %d is damaged: %w", a.key.Name(), h.version, err)
	}
	return req, nil
}

// handle decodes the request in sl and sends sl on its way. An error ends the connection, with sl still the caller's.
func (c *conn) handle(sl *slot) error {
	if c.login.raw && c.login.exchange != nil {
		return c.saslToken(sl)
	}
	h, body, err := parseHeader(*sl.body)
	if err != nil {
		return err
	}
	sl.corr = h.corr
	if h.client != c.who.Client {
		c.rename(h.client)
	}
	api := c.s.apis.find(h.key)
	if api == nil {
		return fmt.Errorf("%s (key %d) is not served: %s", kmsg.NameForKey(h.key), h.key, reasonFor(h.key))
	}
	req, err := api.parseRequest(h, body)
	if err != nil {
		return err
	}
	if req == nil || h.version < max(api.min, api.served) || h.version > api.max {
		return c.refuseVersion(sl, api, h, req)
	}
	if c.mustAuthenticate() && !api.beforeAuth {
		return fmt.Errorf("%s before authentication", kmsg.NameForKey(h.key))
	}
	if c.expired() && !api.beforeAuth {
		return fmt.Errorf("%w: the login has ended (KIP-368)", errHangUp)
	}
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		c.produce(sl, p)
		return nil
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
	sl.hangUp = c.login.hangUp
	c.answers <- struct{}{}
	c.send(sl, true)
}

// allow asks the authorizer.
func (c *conn) allow(op edge.Op, resource string) bool { return c.s.broker.Allow(c.who, op, resource) }
