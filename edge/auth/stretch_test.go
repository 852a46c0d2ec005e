package auth

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"runtime"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// RFC 6070 and RFC 7914, 11; the latter's is two blocks of SHA-256, of which ours is the first.
func TestStretchOfTheRFCs(t *testing.T) {
	for _, c := range []struct {
		h              func() hash.Hash
		password, salt string
		iterations     int
		want           string
	}{
		{sha1.New, "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"},
		{sha1.New, "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"},
		{sha1.New, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"},
		{sha256.New, "passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"},
		{sha256.New, "Password", "NaCl", 80000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"},
	} {
		want, err := hex.DecodeString(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := stretch(c.h, c.password, []byte(c.salt), c.iterations); !bytes.Equal(got[:len(want)], want) {
			t.Errorf("%s/%s %d: %x, want %s", c.password, c.salt, c.iterations, got, c.want)
		}
	}
}

func TestStretchIsPBKDF2(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := rapid.SampledFrom([]func() hash.Hash{sha256.New, sha512.New}).Draw(t, "hash")
		password, salt := rapid.String().Draw(t, "password"), rapid.SliceOf(rapid.Byte()).Draw(t, "salt")
		iterations := rapid.IntRange(1, 300).Draw(t, "iterations")
		want, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
		if got := stretch(h, password, salt, iterations); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
	})
}

// On one processor another goroutine gets to run again and again while one password is hashed.
func TestStretchLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turnsWhile := func(hash func()) int64 {
		var turns atomic.Int64
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
					turns.Add(1)
					runtime.Gosched()
				}
			}
		}()
		runtime.Gosched()
		before := turns.Load()
		hash()
		after := turns.Load()
		close(stop)
		<-ended
		return after - before
	}
	const rounds = 100 * restEvery
	if n := turnsWhile(func() { stretch(sha256.New, "secret", []byte("salt"), rounds) }); n < rounds/restEvery/2 {
		t.Errorf("another goroutine ran %d times", n)
	}
	// That is what is counted: crypto/pbkdf2's is seldom interrupted.
	n := turnsWhile(func() { _, _ = pbkdf2.Key(sha256.New, "secret", []byte("salt"), rounds, sha256.Size) })
	t.Logf("while crypto/pbkdf2 works: %d times", n)
}

func BenchmarkStretch(b *testing.B) {
	salt := make([]byte, saltBytes)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			stretch(sha256.New, "correct horse battery staple", salt, DefaultIterations)
		}
	})
	b.Run("crypto/pbkdf2", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = pbkdf2.Key(sha256.New, "correct horse battery staple", salt, DefaultIterations, sha256.Size)
		}
	})
}
