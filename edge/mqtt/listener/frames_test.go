package listener

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"
)

// masked is a client's frame.
func masked(op byte, final bool, payload []byte) []byte {
	b := appendHeader(nil, op, len(payload))
	if !final {
		b[0] &^= 0x80
	}
	b[1] |= 0x80
	mask := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// stream unpacks b, cut into pieces of at most n bytes.
func stream(b []byte, n int, control func(byte, []byte) error) (out []byte, err error) {
	var u unpacker
	for len(b) > 0 && err == nil {
		piece := bytes.Clone(b[:min(n, len(b))])
		b = b[len(piece):]
		var k int
		k, err = u.bytes(piece, control)
		out = append(out, piece[:k]...)
	}
	return out, err
}

func TestUnpackHoweverItIsCut(t *testing.T) {
	long := bytes.Repeat([]byte("abcdefg"), 10_000)
	var b []byte
	b = append(b, masked(opBinary, true, []byte("one "))...)
	b = append(b, masked(opBinary, false, []byte("two "))...)
	b = append(b, masked(opPing, true, []byte("are you there"))...)
	b = append(b, masked(opContinuation, false, nil)...)
	b = append(b, masked(opContinuation, true, []byte("three "))...)
	b = append(b, masked(opBinary, true, long[:300])...)
	b = append(b, masked(opPong, true, nil)...)
	b = append(b, masked(opBinary, true, long)...)
	b = append(b, masked(opClose, true, []byte{3, 232, 'b', 'y', 'e'})...)
	want := "one two three " + string(long[:300]) + string(long)
	for _, n := range []int{1, 2, 3, 5, 7, 13, 64, 1000, 65536, len(b)} {
		var pings []string
		got, err := stream(b, n, func(op byte, p []byte) error {
			switch op {
			case opPing:
				pings = append(pings, string(p))
			case opClose:
				return io.EOF
			}
			return nil
		})
		if !errors.Is(err, io.EOF) || string(got) != want || len(pings) != 1 || pings[0] != "are you there" {
			t.Errorf("pieces of %d: %v, %d bytes of %d, pings %q", n, err, len(got), len(want), pings)
		}
	}
}

func TestBrokenFrames(t *testing.T) {
	unmasked := appendHeader(nil, opBinary, 3)
	huge := binary.BigEndian.AppendUint64([]byte{0x82, 0xFF}, 1<<63)
	for _, c := range []struct {
		name   string
		b      []byte
		status uint16
	}{
		{"not masked", append(unmasked, "abcdefghij"...), closeProtocol},
		{"reserved bit", append([]byte{0xC2, 0x80}, 1, 2, 3, 4), closeProtocol},
		{"unknown data opcode", masked(3, true, nil), closeProtocol},
		{"unknown control opcode", masked(0xB, true, nil), closeProtocol},
		{"text", masked(opText, true, []byte("x")), closeUnsupported},
		{"continuation of nothing", masked(opContinuation, true, nil), closeProtocol},
		{"message within a message", append(masked(opBinary, false, nil), masked(opBinary, true, nil)...), closeProtocol},
		{"long ping", masked(opPing, true, make([]byte, 126)), closeProtocol},
		{"fragmented close", masked(opClose, false, nil), closeProtocol},
		{"length beyond 63 bits", append(huge, 1, 2, 3, 4), closeProtocol},
	} {
		var e *frameError
		if _, err := stream(c.b, len(c.b), func(byte, []byte) error { return nil }); !errors.As(err, &e) || e.status != c.status {
			t.Errorf("%s: %v, want status %d", c.name, err, c.status)
		}
	}
}

// However bytes are cut, the same comes out, and nothing panics.
func FuzzUnpack(f *testing.F) {
	f.Add(masked(opBinary, true, []byte("hello")), 3)
	f.Add(append(masked(opBinary, false, []byte("a")), masked(opContinuation, true, []byte("b"))...), 1)
	f.Add(masked(opPing, true, []byte("p")), 2)
	f.Add([]byte{0x82, 0xFE, 0x01}, 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		run := func(n int) (string, string, error) {
			var said []byte
			out, err := stream(b, n, func(op byte, p []byte) error {
				said = append(append(said, op), p...)
				return nil
			})
			return string(out), string(said), err
		}
		whole, said, err := run(len(b) + 1)
		cut, said2, err2 := run(n)
		if whole != cut || said != said2 || (err == nil) != (err2 == nil) {
			t.Fatalf("whole %q %q %v, in pieces of %d %q %q %v", whole, said, err, n, cut, said2, err2)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	for _, size := range []int{200, 16 << 10} {
		one := masked(opBinary, true, make([]byte, size))
		var all []byte
		for len(all)+len(one) <= 64<<10 {
			all = append(all, one...)
		}
		work := make([]byte, len(all))
		b.Run(map[bool]string{true: "small", false: "large"}[size == 200], func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(all)))
			var u unpacker
			for b.Loop() {
				copy(work, all)
				if _, err := u.bytes(work, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// selfSigned is a certificate for a test's server.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
