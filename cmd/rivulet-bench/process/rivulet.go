package process

import (
	"context"
	"fmt"
	"net"
	"os/exec"
)

// Rivulet starts `rivulet serve` on a data directory. Addresses that args do not give are free ports; Ready tells which.
func Rivulet(binary, dataDir string, args ...string) (*Process, error) {
	return Start(exec.Command(binary, ServeArgs(dataDir, args...)...)) //nolint:noctx // it lives until Stop or Kill
}

// ServeArgs are the arguments that make rivulet serve a data directory on free ports and say so in JSON.
func ServeArgs(dataDir string, args ...string) []string {
	return append([]string{
		"serve", "--data-dir", dataDir, "--log-format", "json",
		"--mqtt", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0",
	}, args...)
}

// FreeAddrs are n loopback addresses that are free now, for programs that must be told their port. They lie below the ports that the
// system gives to clients: while a broker is down, a client that keeps dialling a port of that range would one day be connected to
// itself, and hold it.
func FreeAddrs(ctx context.Context, n int) ([]string, error) {
	var lc net.ListenConfig
	probe, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find free port: %w", err)
	}
	defer probe.Close()
	// The system's choice is a good random start; two processes that ask at once begin elsewhere.
	const low, span = 10_000, 20_000
	start := probe.Addr().(*net.TCPAddr).Port
	var addrs []string
	for i := 0; len(addrs) < n; i++ {
		if i == 1000 {
			return nil, fmt.Errorf("find %d free ports: none among a thousand", n)
		}
		l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", low+(start+i*7)%span))
		if err == nil {
			defer l.Close()
			addrs = append(addrs, l.Addr().String())
		}
	}
	return addrs, nil
}
