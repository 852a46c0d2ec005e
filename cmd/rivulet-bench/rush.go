package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/wire"
)

// rush is devices that come back all at once.
type rush struct {
	addr, password string
	devices        int
	tls            bool
	scram          bool   // MQTT 5 enhanced authentication; else the password, unless it is ""
	certs          string // folder with ca.pem and, for a login by certificate, client-device.pem and .key
	certificate    bool   // log in by it, over TLS
	crowded        bool   // take a full share of the processors; else what others leave
}

// rushResult is what they saw.
type rushResult struct {
	Took   time.Duration `json:"took"` // from the first connection to the last CONNACK
	Failed int           `json:"failed"`
	Err    string        `json:"err,omitempty"` // of one that failed
}

// rushCommand is the devices' side in a process of its own, so that the one that measures has nothing else to do.
func rushCommand() *cobra.Command {
	var r rush
	c := &cobra.Command{
		Use:   "rush",
		Short: "Have devices connect all at once when a line comes on standard input, and leave when it ends, for storm",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			login, err := r.prepare()
			if err == nil && !r.crowded {
				err = stepBack()
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), `{"msg":"ready"}`)
			stdin := bufio.NewReader(c.InOrStdin())
			if _, err := stdin.ReadString('\n'); err != nil {
				return fmt.Errorf("wait for the start: %w", err)
			}
			res, letGo := r.run(c.Context(), login)
			defer letGo()
			if err := json.NewEncoder(c.OutOrStdout()).Encode(res); err != nil {
				return fmt.Errorf("print result: %w", err)
			}
			if _, err := stdin.ReadString('\n'); err != nil && !errors.Is(err, io.EOF) { // they stay until then
				return fmt.Errorf("wait for the end: %w", err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.addr, "addr", "127.0.0.1:1883", "the broker")
	f.IntVar(&r.devices, "devices", 1000, "how many; they are users device-0, device-1, …")
	f.StringVar(&r.password, "password", "", "of each")
	f.BoolVar(&r.scram, "scram", false, "log in by SCRAM-SHA-256 over MQTT 5")
	f.StringVar(&r.certs, "certs", "", "folder with ca.pem, client-device.pem, client-device.key")
	f.BoolVar(&r.tls, "tls", false, "connect by TLS")
	f.BoolVar(&r.crowded, "crowded", false, "take a full share of the processors; else they get what others leave")
	f.BoolVar(&r.certificate, "certificate", false, "log in by the client certificate")
	return c
}

// deviceLogin is what all devices share.
type deviceLogin struct {
	salted []byte // SCRAM's, hashed before the start
	tls    *tls.Config
}

func (r *rush) prepare() (l deviceLogin, err error) {
	if r.scram {
		if l.salted, err = stormSalted(r.password); err != nil {
			return l, err
		}
	}
	if !r.tls && !r.certificate {
		return l, nil
	}
	pem, err := os.ReadFile(filepath.Join(r.certs, "ca.pem"))
	if err != nil {
		return l, fmt.Errorf("read authority: %w", err)
	}
	l.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS13}
	l.tls.RootCAs.AppendCertsFromPEM(pem)
	if r.certificate {
		cert, err := tls.LoadX509KeyPair(filepath.Join(r.certs, "client-device.pem"), filepath.Join(r.certs, "client-device.key"))
		if err != nil {
			return l, fmt.Errorf("read client certificate: %w", err)
		}
		l.tls.Certificates = []tls.Certificate{cert}
	}
	return l, nil
}

// run connects all devices and returns when the last one is in.
func (r *rush) run(ctx context.Context, l deviceLogin) (res rushResult, letGo func()) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	var mu sync.Mutex // guards res and conns
	var conns []*wire.Conn
	var wg sync.WaitGroup
	from := time.Now()
	for i := range r.devices {
		wg.Go(func() {
			nc, err := r.connect(ctx, l, fmt.Sprintf("device-%d", i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				res.Failed++
				res.Err = err.Error()
				return
			}
			conns = append(conns, nc)
		})
	}
	wg.Wait()
	res.Took = time.Since(from)
	return res, func() {
		for _, nc := range conns {
			_ = nc.Close()
		}
		cancel()
	}
}

func (r *rush) connect(ctx context.Context, l deviceLogin, name string) (*wire.Conn, error) {
	nc, err := wire.Open(ctx, r.addr, l.tls)
	if err != nil {
		return nil, err
	}
	switch {
	case r.scram:
		err = scramConnect(nc, name, l.salted)
	case r.certificate:
		err = nc.Connect(wire.AppendConnect(nil, name))
	default:
		err = nc.Connect(wire.AppendConnectLogin(nil, name, name, r.password))
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return nc, nil
}
