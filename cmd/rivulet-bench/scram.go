package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"rivulet/cmd/rivulet-bench/wire"
)

// The users of storm: all have the same password and salt, so that the devices' side hashes once. The broker cannot know, and hashes
// for each.
const (
	stormSalt       = "storm's own salt"
	stormIterations = 4096
	scramMethod     = "SCRAM-SHA-256"
)

func stormSalted(password string) ([]byte, error) {
	salted, err := pbkdf2.Key(sha256.New, password, []byte(stormSalt), stormIterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return salted, nil
}

// stormCredential is a user's record as a users file has it.
func stormCredential(salted []byte) string {
	b := base64.StdEncoding.EncodeToString
	stored := sha256.Sum256(sign(salted, "Client Key"))
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramMethod, stormIterations, b([]byte(stormSalt)), b(stored[:]), b(sign(salted, "Server Key")))
}

func sign(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = io.WriteString(m, text) // a hash takes everything
	return m.Sum(nil)
}

// scramConnect is RFC 7677 over MQTT 5's enhanced authentication; the client has hashed before.
func scramConnect(nc *wire.Conn, user string, salted []byte) error {
	bare := "n=" + user + ",r=" + base64.StdEncoding.EncodeToString([]byte(user))
	if _, err := nc.Write(wire.AppendConnectAuth(nil, user, scramMethod, []byte("n,,"+bare))); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	in := bufio.NewReader(nc)
	first, body, err := readPacket(in)
	if err != nil {
		return fmt.Errorf("read AUTH: %w", err)
	}
	challenge, ok := authData(body)
	if first != wire.Auth || !ok {
		return fmt.Errorf("connection was refused: %x %x", first, body)
	}
	nonce, _, _ := strings.Cut(strings.TrimPrefix(challenge, "r="), ",")
	without := "c=biws,r=" + nonce
	key := sign(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := sign(stored[:], bare+","+challenge+","+without)
	for i := range proof {
		proof[i] ^= key[i]
	}
	final := without + ",p=" + base64.StdEncoding.EncodeToString(proof)
	if _, err := nc.Write(wire.AppendAuth(nil, scramMethod, []byte(final))); err != nil {
		return fmt.Errorf("send AUTH: %w", err)
	}
	if first, body, err = readPacket(in); err != nil {
		return fmt.Errorf("read CONNACK: %w", err)
	}
	if first != wire.Connack || len(body) < 2 || body[1] != 0 {
		return fmt.Errorf("connection was refused: %x %x", first, body)
	}
	return nil
}

func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r) // the same coding as MQTT's
	if err != nil || n > 64<<10 {
		return 0, nil, errors.Join(errors.New("length of a packet"), err)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// authData finds Authentication Data behind Authentication Method, which is how rivulet sends them.
func authData(body []byte) (string, bool) {
	at := bytes.Index(body, []byte(scramMethod+"\x16"))
	if at < 0 {
		return "", false
	}
	rest := body[at+len(scramMethod)+1:]
	if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
		return "", false
	}
	return string(rest[2 : 2+int(binary.BigEndian.Uint16(rest))]), true
}
