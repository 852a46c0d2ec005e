package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	edgehttp "rivulet/edge/http"
	"rivulet/sync/bridge"
)

// bridges runs the configured bridges from other MQTT brokers and shows them to the API. A reload changes them while they run.
type bridges struct {
	broker *edge.Broker
	log    *slog.Logger
	ctx    context.Context // ends with the server
	cancel context.CancelFunc

	changing sync.Mutex // held while bridges are started and stopped
	mu       sync.Mutex // guards list, which is replaced, not changed
	list     []*runningBridge
}

// runningBridge is a bridge with the configuration that it was made of.
type runningBridge struct {
	*bridge.Bridge
	config config.Bridge
	cancel context.CancelFunc
	ended  chan struct{}
}

// startBridges checks all of them before it starts any.
func startBridges(cfg *config.Config, b *edge.Broker, log *slog.Logger) (*bridges, error) {
	if err := checkBridges(cfg.Bridges); err != nil {
		return nil, err
	}
	bs := &bridges{broker: b, log: log}
	bs.ctx, bs.cancel = context.WithCancel(context.Background())
	if _, err := bs.change(cfg.Bridges); err != nil {
		bs.stop()
		return nil, err
	}
	return bs, nil
}

// checkBridges reads the files that bridges need.
func checkBridges(list []config.Bridge) error {
	for _, c := range list {
		o := bridgeOptions(c)
		if o.TLS != nil {
			if _, err := o.TLS(); err != nil {
				return fmt.Errorf("bridge %s: %w", c.Name, err)
			}
		}
		if o.Password != nil {
			if _, err := o.Password(); err != nil {
				return fmt.Errorf("bridge %s: %w", c.Name, err)
			}
		}
	}
	return nil
}

func bridgeOptions(c config.Bridge) bridge.Options {
	o := c.Options()
	if c.TLS != nil {
		o.TLS = func() (*tls.Config, error) { return clientTLS(c.TLS) }
	}
	if c.PasswordFile != "" {
		o.Password = func() (string, error) { return firstLine(c.PasswordFile) }
	}
	return o
}

// change makes the running bridges those of a configuration that was checked: one that is in it unchanged goes on undisturbed, the
// others are stopped, and begin anew if they are still wanted. One that cannot be made does not keep the rest from running.
func (bs *bridges) change(want []config.Bridge) (changed bool, err error) {
	bs.changing.Lock()
	defer bs.changing.Unlock()
	if bs.ctx.Err() != nil {
		return false, errors.New("change bridges: the server stops")
	}
	kept := map[string]*runningBridge{}
	for _, r := range bs.running() {
		kept[r.config.Name] = r
	}
	wanted := map[string]config.Bridge{}
	for _, c := range want {
		wanted[c.Name] = c
	}
	for name, r := range kept {
		if c, ok := wanted[name]; !ok || !reflect.DeepEqual(c, r.config) {
			r.cancel()
			delete(kept, name)
			changed = true
		}
	}
	for _, r := range bs.running() { // the state of a bridge has one owner: the old one ends before the new one begins
		if kept[r.config.Name] == nil {
			<-r.ended
		}
	}
	var list []*runningBridge
	var errs []error
	for _, c := range want {
		r := kept[c.Name]
		if r == nil {
			changed = true
			if r, err = bs.start(c); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		list = append(list, r)
	}
	bs.mu.Lock()
	bs.list = list
	bs.mu.Unlock()
	return changed, errors.Join(errs...)
}

func (bs *bridges) start(c config.Bridge) (*runningBridge, error) {
	o := bridgeOptions(c)
	o.Broker, o.Log = bs.broker, bs.log
	b, err := bridge.New(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(bs.ctx)
	r := &runningBridge{Bridge: b, config: c, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		defer cancel()
		b.Run(ctx)
	}()
	return r, nil
}

func (bs *bridges) running() []*runningBridge {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.list
}

func (bs *bridges) stop() {
	bs.cancel()
	bs.changing.Lock()
	defer bs.changing.Unlock()
	for _, r := range bs.running() {
		<-r.ended
	}
}

// Status implements edgehttp.Bridges.
func (bs *bridges) Status() []edgehttp.Bridge {
	var list []edgehttp.Bridge
	for _, b := range bs.running() {
		st := b.Status()
		list = append(list, edgehttp.Bridge{Name: st.Name, Status: st, Figures: edgehttp.BridgeFigures{
			Running: st.State == bridge.StateRunning, InFlight: st.InFlight, Connects: st.Connects, Lost: st.Lost, Received: st.Received,
			Committed: st.Committed, Bytes: st.Bytes, Again: st.Again, Refused: st.Refused, Loop: st.Looped,
		}})
	}
	return list
}

// Pause implements edgehttp.Bridges.
func (bs *bridges) Pause(name string) bool { return bs.steer(name, (*bridge.Bridge).Pause) }

// Resume implements edgehttp.Bridges.
func (bs *bridges) Resume(name string) bool { return bs.steer(name, (*bridge.Bridge).Resume) }

func (bs *bridges) steer(name string, do func(*bridge.Bridge)) bool {
	for _, b := range bs.running() {
		if b.config.Name == name {
			do(b.Bridge)
			return true
		}
	}
	return false
}
