package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Dial connects and waits for the CONNACK, until ctx ends.
func Dial(ctx context.Context, addr, clientID string) (net.Conn, error) {
	return dial(ctx, addr, AppendConnect(nil, clientID))
}

// DialKept is Dial with a session that outlives the connection.
func DialKept(ctx context.Context, addr, clientID string) (net.Conn, error) {
	return dial(ctx, addr, AppendConnectKept(nil, clientID))
}

func dial(ctx context.Context, addr string, connect []byte) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial broker: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(connect); err != nil {
		conn.Close()
		return nil, fmt.Errorf("send CONNECT: %w", err)
	}
	var ack [4]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil {
		conn.Close()
		return nil, fmt.Errorf("read CONNACK: %w", err)
	}
	if ack[0] != Connack || ack[3] != 0 {
		conn.Close()
		return nil, fmt.Errorf("connection was refused: %x", ack)
	}
	return conn, nil
}
