package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// NATS starts a NATS server in a folder, with JetStream on files, which its MQTT needs, and its defaults otherwise: it syncs every two
// minutes. It is ready when it returns.
func NATS(ctx context.Context, binary, dir string) (*Process, error) {
	addrs, err := FreeAddrs(ctx, 2)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addrs[1])
	if err != nil {
		return nil, fmt.Errorf("split address: %w", err)
	}
	conf := fmt.Sprintf("listen: %q\nserver_name: bench\njetstream {store_dir: %s}\nmqtt {host: 127.0.0.1, port: %s}\n",
		addrs[0], strconv.Quote(filepath.Join(dir, "nats")), port)
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write nats.conf: %w", err)
	}
	return probed(ctx, exec.Command(binary, "-c", file), addrs[1]) //nolint:noctx // it lives until Stop or Kill
}

// Mochi starts mochi's own example server, which keeps everything in memory. It is ready when it returns.
func Mochi(ctx context.Context, binary string) (*Process, error) {
	addrs, err := FreeAddrs(ctx, 3)
	if err != nil {
		return nil, err
	}
	return probed(ctx, exec.Command(binary, "-tcp", addrs[0], "-ws", addrs[1], "-info", addrs[2]), addrs[0]) //nolint:noctx // as above
}
