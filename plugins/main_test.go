package plugins

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// compiled is a cache of compiled guests for the tests of this binary: those in Go take a second each.
var compiled string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rivulet-plugins")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	compiled = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // it is temporary
		os.Exit(code)
	}))
}
