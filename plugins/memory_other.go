//go:build !unix

package plugins

// reserve allocates zeroed memory.
func reserve(n int) []byte { return make([]byte, n) }

func release([]byte) {}
