package auth

import (
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// maxKnown bounds the passwords that are remembered; each takes some 100 bytes.
const maxKnown = 8192

// knownPasswords remembers which passwords were right, so that HTTP requests and devices that come back pay a microsecond and not
// a millisecond. What it holds is an HMAC under a key that is only in this process, over user, password and the credential that it
// was checked by: a changed password is not found any more. A memory dump of the process helps who has it to try passwords faster
// than the iterations allow; it also shows the passwords of whoever logs in.
type knownPasswords struct {
	key []byte

	mu       sync.Mutex // guards what follows
	new, old map[mark]struct{}
}

type mark [sha256.Size]byte

func (k *knownPasswords) init(random io.Reader) error {
	k.key = make([]byte, sha256.Size)
	k.new = map[mark]struct{}{}
	if _, err := io.ReadFull(random, k.key); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	return nil
}

func (k *knownPasswords) mark(user, password string, c Credential) mark {
	return mark(sum(sha256.New, k.key, string(sum(sha256.New, k.key, user)), string(sum(sha256.New, k.key, password)), string(c.StoredKey)))
}

// has looks a mark up by its value: who does not have the key cannot choose what it looks like, so a map's timing tells nothing.
func (k *knownPasswords) has(m mark) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.new[m]; ok {
		return true
	}
	_, ok := k.old[m]
	if ok {
		k.keep(m)
	}
	return ok
}

func (k *knownPasswords) add(m mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keep(m)
}

// keep forgets the older half when the newer one is full. k.mu is held.
func (k *knownPasswords) keep(m mark) {
	if len(k.new) >= maxKnown/2 {
		k.new, k.old = map[mark]struct{}{}, k.new
	}
	k.new[m] = struct{}{}
}
