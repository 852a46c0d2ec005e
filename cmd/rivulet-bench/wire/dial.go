package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// Conn is a connection whose broker has not answered CONNECT yet.
type Conn struct {
	net.Conn
	stop func() bool
}

// Open connects by TCP, and by TLS unless c is nil. When ctx ends, so does the connection.
func Open(ctx context.Context, addr string, c *tls.Config) (*Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial broker: %w", err)
	}
	conn := &Conn{Conn: nc, stop: context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })}
	if c == nil {
		return conn, nil
	}
	t := tls.Client(nc, c)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	conn.Conn = t
	return conn, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// Connect sends CONNECT of MQTT 3.1.1 and waits for a CONNACK that lets it in.
func (c *Conn) Connect(packet []byte) error {
	if _, err := c.Write(packet); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	var ack [4]byte
	if _, err := io.ReadFull(c, ack[:]); err != nil {
		return fmt.Errorf("read CONNACK: %w", err)
	}
	if ack[0] != Connack || ack[3] != 0 {
		return fmt.Errorf("connection was refused: %x", ack)
	}
	return nil
}

// Dial connects and waits for the CONNACK, until ctx ends.
func Dial(ctx context.Context, addr, clientID string) (net.Conn, error) {
	return dial(ctx, addr, AppendConnect(nil, clientID))
}

// DialKept is Dial with a session that outlives the connection.
func DialKept(ctx context.Context, addr, clientID string) (net.Conn, error) {
	return dial(ctx, addr, AppendConnectKept(nil, clientID))
}

// DialLogin is Dial with user name and password.
func DialLogin(ctx context.Context, addr, clientID, user, password string) (net.Conn, error) {
	return dial(ctx, addr, AppendConnectLogin(nil, clientID, user, password))
}

func dial(ctx context.Context, addr string, connect []byte) (net.Conn, error) {
	c, err := Open(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(connect); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.stop()
	return c.Conn, nil
}
