package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	edgehttp "rivulet/edge/http"
	"rivulet/sync/bridge"
)

// bridges runs the configured bridges from other MQTT brokers and shows them to the API.
type bridges struct{ links[*bridge.Bridge] }

func newBridges() *bridges {
	return &bridges{links[*bridge.Bridge]{run: func(ctx context.Context, _ string, b *bridge.Bridge) { b.Run(ctx) }}}
}

// wantedBridges reads the files that the bridges name.
func wantedBridges(cfg *config.Config, b *edge.Broker, log *slog.Logger) ([]wanted[*bridge.Bridge], error) {
	var list []wanted[*bridge.Bridge]
	for i, c := range cfg.Bridges {
		o := c.Options()
		o.Broker, o.Log = b, log
		w := wanted[*bridge.Bridge]{name: c.Name}
		var err error
		if c.TLS != nil {
			o.TLS = func() (*tls.Config, error) { return clientTLS(c.TLS) }
			_, err = o.TLS()
		}
		if err == nil && c.PasswordFile != "" {
			o.Password = func() (string, error) { return firstLine(c.PasswordFile) }
			_, err = o.Password()
		}
		if err == nil {
			w.print, err = printOf(c, nil) // it reads its files again for every connection
		}
		if err != nil {
			return nil, cfg.At(fmt.Sprintf("bridges[%d]", i), fmt.Errorf("bridge %s: %w", c.Name, err))
		}
		w.open = func() (*bridge.Bridge, error) { return bridge.New(o) } // it loads what the one before it has left
		list = append(list, w)
	}
	return list, nil
}

// Status implements edgehttp.Bridges.
func (bs *bridges) Status() []edgehttp.Bridge {
	var list []edgehttp.Bridge
	for _, b := range bs.all() {
		st := b.Status()
		list = append(list, edgehttp.Bridge{Name: st.Name, Status: st, Figures: edgehttp.BridgeFigures{
			Running: st.State == bridge.StateRunning, InFlight: st.InFlight, Connects: st.Connects, Lost: st.Lost, Received: st.Received,
			Committed: st.Committed, Bytes: st.Bytes, Again: st.Again, Refused: st.Refused, Loop: st.Looped,
		}})
	}
	return list
}

// Pause implements edgehttp.Bridges.
func (bs *bridges) Pause(name string) bool { return bs.with(name, (*bridge.Bridge).Pause) }

// Resume implements edgehttp.Bridges.
func (bs *bridges) Resume(name string) bool { return bs.with(name, (*bridge.Bridge).Resume) }
