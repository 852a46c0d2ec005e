package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// Mosquitto starts the peer in a folder, without persistence: what it acknowledges lives in its memory. It is ready when it returns.
func Mosquitto(ctx context.Context, binary, dir string) (*Process, error) {
	addrs, err := FreeAddrs(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := addrs[0]
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("split address: %w", err)
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write mosquitto.conf: %w", err)
	}
	return probed(ctx, exec.Command(binary, "-c", conf), addr) //nolint:noctx // it lives until Stop or Kill
}

// probed starts a broker that does not say when it is ready: it is when it takes a connection. It may have as many files open as the
// system allows, which Go gives to itself and takes from its children.
func probed(ctx context.Context, cmd *exec.Cmd, addr string) (*Process, error) {
	args := append([]string{"-c", `ulimit -n "$(ulimit -Hn)"; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	p, err := Start(exec.Command("sh", args...)) //nolint:noctx // as the callers'
	if err != nil {
		return nil, err
	}
	p.MQTT = addr
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := wire.Dial(ctx, addr, "ready-probe"); err == nil {
			conn.Close()
			p.SetReady()
			return p, nil
		}
		select {
		case <-poll.C:
		case <-p.Ended:
			return nil, p.Await(ctx)
		case <-ctx.Done():
			return nil, p.Await(ctx)
		}
	}
}
