package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	edgehttp "rivulet/edge/http"
	"rivulet/sync/bridge"
)

// bridges runs the configured bridges from other MQTT brokers and shows them to the API.
type bridges struct {
	list    []*bridge.Bridge
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// startBridges checks all of them before it starts any.
func startBridges(cfg *config.Config, b *edge.Broker, log *slog.Logger) (*bridges, error) {
	bs := &bridges{}
	for _, c := range cfg.Bridges {
		o := c.Options()
		o.Broker, o.Log = b, log
		if c.TLS != nil {
			tc, err := clientTLS(c.TLS)
			if err != nil {
				return nil, fmt.Errorf("bridge %s: %w", c.Name, err)
			}
			o.TLS = tc
		}
		if c.PasswordFile != "" {
			o.Password = func() (string, error) { return firstLine(c.PasswordFile) }
			if _, err := o.Password(); err != nil {
				return nil, fmt.Errorf("bridge %s: %w", c.Name, err)
			}
		}
		br, err := bridge.New(o)
		if err != nil {
			return nil, err
		}
		bs.list = append(bs.list, br)
	}
	ctx, cancel := context.WithCancel(context.Background())
	bs.cancel = cancel
	for _, br := range bs.list {
		bs.running.Go(func() { br.Run(ctx) })
	}
	return bs, nil
}

func (bs *bridges) stop() {
	bs.cancel()
	bs.running.Wait()
}

// Status implements edgehttp.Bridges.
func (bs *bridges) Status() []edgehttp.Bridge {
	var list []edgehttp.Bridge
	for _, b := range bs.list {
		st := b.Status()
		list = append(list, edgehttp.Bridge{Name: st.Name, Status: st, Figures: edgehttp.BridgeFigures{
			Running: st.State == bridge.StateRunning, InFlight: st.InFlight, Connects: st.Connects, Lost: st.Lost, Received: st.Received,
			Committed: st.Committed, Bytes: st.Bytes, Again: st.Again, Refused: st.Refused, Loop: st.Looped,
		}})
	}
	return list
}
