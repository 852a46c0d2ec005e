package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
	edgehttp "rivulet/edge/http"
)

const defaultServer = "http://127.0.0.1:8080"

// remote is a broker that a client verb speaks to over HTTP, by TCP or by the socket in its data directory.
type remote struct {
	p            *program
	server       string
	user         string
	passwordFile string
	tls          config.ClientTLS
}

// remote adds the flags that all verbs of a noun share.
func (p *program) remote(cmd *cobra.Command) *remote {
	r := &remote{p: p}
	f := cmd.PersistentFlags()
	f.StringVar(&r.server, "server", "", `the broker's HTTP address, or unix:PATH of its admin.sock (default: RIVULET_SERVER; without --user the admin.sock in RIVULET_DATA_DIR or ./rivulet-data, if a broker answers there; "`+defaultServer+`")`)
	f.StringVar(&r.user, "user", "", "user name (default: RIVULET_USER)")
	f.StringVar(&r.passwordFile, "password-file", "", "file with the password (default: RIVULET_PASSWORD_FILE)")
	f.StringVar(&r.tls.CA, "ca", "", "file with the authority of an https server (default: RIVULET_CA, or the system's)")
	f.StringVar(&r.tls.Cert, "client-cert", "", "client certificate (default: RIVULET_CLIENT_CERT)")
	f.StringVar(&r.tls.Key, "client-key", "", "its key (default: RIVULET_CLIENT_KEY)")
	return r
}

// base is the URL that paths are put behind, and the socket to dial, if it is one.
func (r *remote) base(ctx context.Context) (base, socket string) {
	server := cmp.Or(r.server, r.p.getenv("RIVULET_SERVER"))
	if server == "" {
		server = cmp.Or(r.owners(ctx), defaultServer)
	}
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		return "http://rivulet", path
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	return strings.TrimRight(server, "/"), ""
}

// owners is the admin socket of the broker whose data directory this is, "" when none answers there to us. It needs no login; who gives one
// wants to be that user.
func (r *remote) owners(ctx context.Context) string {
	if r.user != "" || r.p.getenv("RIVULET_USER") != "" {
		return ""
	}
	path := filepath.Join(cmp.Or(r.p.getenv("RIVULET_DATA_DIR"), config.Default().DataDir), "admin.sock")
	if len(path) > maxSocketPath {
		return ""
	}
	nc, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return ""
	}
	_ = nc.Close()
	return "unix:" + path
}

// login is what the flags or the environment say; "" is nobody.
func (r *remote) login() (user, password string, err error) {
	user, file := r.user, r.passwordFile
	if user == "" {
		user = r.p.getenv("RIVULET_USER")
	}
	if file == "" {
		file = r.p.getenv("RIVULET_PASSWORD_FILE")
	}
	if user == "" || file == "" {
		return user, "", nil
	}
	password, err = firstLine(file)
	return user, password, err
}

// clientTLS is what the flags or the environment say.
func (r *remote) clientTLS() *config.ClientTLS {
	t := r.tls
	t.CA = cmp.Or(t.CA, r.p.getenv("RIVULET_CA"))
	t.Cert = cmp.Or(t.Cert, r.p.getenv("RIVULET_CLIENT_CERT"))
	t.Key = cmp.Or(t.Key, r.p.getenv("RIVULET_CLIENT_KEY"))
	return &t
}

// call sends in as JSON (nothing when it is nil) and reads the answer into out (unless it is nil).
func (r *remote) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	return r.send(ctx, method, path, "application/json", body, out)
}

func (r *remote) send(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	resp, err := r.do(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the broker's answer: %w", err)
	}
	return nil
}

// do returns the answer to a request that was not refused; the caller closes its body.
func (r *remote) do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	base, socket := r.base(ctx)
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, usageError("--server %s: %w", base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	user, password, err := r.login()
	if err != nil {
		return nil, err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if strings.HasPrefix(base, "https:") {
		if t.TLSClientConfig, err = clientTLS(r.clientTLS()); err != nil {
			return nil, err
		}
	}
	if socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
		base = socket
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return nil, unreachable(ctx, base, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

// errNoBroker says that nobody listens there.
var errNoBroker = errors.New("no broker")

func unreachable(ctx context.Context, base string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("%w at %s; start one with `rivulet serve`, or say --server", errNoBroker, base)
	}
	return fmt.Errorf("reach the broker: %w; say --server if it is elsewhere", err)
}

// problem turns a refusal into an error with its exit status.
func problem(resp *http.Response) error {
	var p edgehttp.Problem
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is missing shows as no detail
	err := errors.New(resp.Status)
	if json.Unmarshal(data, &p) == nil && p.Detail != "" {
		err = errors.New(p.Detail)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: say --user NAME --password-file FILE, or, on the gateway, --server unix:DATA_DIR/admin.sock", err)
	case http.StatusNotFound:
		return &exitError{exitNotFound, err}
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return &exitError{exitUnhealthy, err}
	}
	return err
}

// brokerInfo asks the broker for its addresses.
func (r *remote) brokerInfo(ctx context.Context) (edgehttp.Broker, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var b edgehttp.Broker
	err := r.call(ctx, http.MethodGet, "/v1/broker", nil, &b)
	return b, err
}

// escape makes a name one segment of a path.
func escape(name string) string { return url.PathEscape(name) }
