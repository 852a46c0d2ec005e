package auth

import (
	"crypto/hmac"
	"crypto/subtle"
	"hash"
	"runtime"
)

// restEvery is after how many rounds stretch lets others run: some 25 µs with the processor's own SHA-256, 0.2 ms without.
const restEvery = 128

// stretch is PBKDF2 (RFC 8018, 5.2) for a key as long as the hash, which is SCRAM's Hi (RFC 5802, 2.2) and one block. It is
// crypto/pbkdf2's but for one thing: it lets other goroutines run every restEvery rounds. The runtime would take the processor away only after 10 ms,
// which is many passwords, and whoever has a message meanwhile would wait for all of them.
func stretch(h func() hash.Hash, password string, salt []byte, iterations int) []byte {
	m := hmac.New(h, []byte(password))
	m.Write(salt)
	m.Write([]byte{0, 0, 0, 1}) // the number of the block
	u := m.Sum(nil)
	out := append([]byte(nil), u...)
	for i := 1; i < iterations; i++ {
		m.Reset()
		m.Write(u)
		u = m.Sum(u[:0])
		subtle.XORBytes(out, out, u)
		if i%restEvery == 0 {
			runtime.Gosched()
		}
	}
	return out
}
