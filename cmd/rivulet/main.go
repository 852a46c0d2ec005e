// Rivulet is a broker for the edge; see the README. Each verb is a file of its own; serve.go is where a broker is put together.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	roomForPasswords()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// roomForPasswords lets the runtime use more threads at once than there are processors: as many more as passwords are hashed at once (package
// auth). The kernel takes the processor from one that hashes as soon as another thread needs it; without room the runtime would have none to run there.
func roomForPasswords() {
	if os.Getenv("GOMAXPROCS") == "" {
		n := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(n + max(1, n/2))
	}
}
