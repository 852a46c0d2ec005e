package kafka

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawClient speaks the protocol by hand: whatever bytes, whatever version.
type rawClient struct {
	t    testing.TB
	nc   net.Conn
	corr int32
}

func dial(b *broker) *rawClient {
	b.t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(b.t.Context(), "tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	return &rawClient{t: b.t, nc: nc}
}

func (r *rawClient) close() { _ = r.nc.Close() }

// encodeRequest is a request with its header, without its length.
func encodeRequest(req kmsg.Request, version int16, corr int32) []byte {
	req.SetVersion(version)
	b := binary.BigEndian.AppendUint16(nil, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(corr))
	b = binary.BigEndian.AppendUint16(b, 4)
	b = append(b, "test"...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	return req.AppendTo(b)
}

func (r *rawClient) send(req kmsg.Request, version int16) {
	r.t.Helper()
	r.corr++
	r.sendBytes(encodeRequest(req, version, r.corr))
}

func (r *rawClient) sendBytes(b []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		r.t.Fatal(err)
	}
}

// receive returns one response, without its length.
func (r *rawClient) receive() []byte {
	r.t.Helper()
	b, err := r.tryReceive()
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rawClient) tryReceive() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r.nc, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r.nc, b)
	return b, err
}

// wantClosed holds that the server hangs up without another word.
func (r *rawClient) wantClosed() {
	r.t.Helper()
	if b, err := r.tryReceive(); err == nil {
		r.t.Fatalf("got a response of %d bytes, want the connection closed", len(b))
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		r.t.Fatal("connection is still open")
	}
}

func (r *rawClient) decode(resp kmsg.Response, corr int32) {
	r.t.Helper()
	b := r.receive()
	if got := int32(binary.BigEndian.Uint32(b)); got != corr {
		r.t.Fatalf("response to request %d, want %d", got, corr)
	}
	b = b[4:]
	if resp.IsFlexible() && resp.Key() != kmsg.ApiVersions.Int16() {
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		r.t.Fatalf("%s version %d: %v", kmsg.NameForKey(resp.Key()), resp.GetVersion(), err)
	}
}

func ask[R kmsg.Response](r *rawClient, req kmsg.Request, version int16) R {
	r.t.Helper()
	r.send(req, version)
	resp := req.ResponseKind()
	r.decode(resp, r.corr)
	return resp.(R)
}
