package bridge

import (
	"context"
	"encoding/json"
	"fmt"

	"rivulet/edge"
)

// subscriptionSpace of the store holds, by bridge name, what is known of the session at the other side.
const subscriptionSpace = "bridge.subscriptions"

// session is the session at the other side, as far as it is known here. The packet ids of ids.go are this session's.
type session struct {
	Broker   string   `json:"broker"`
	ClientID string   `json:"client_id"`
	Filters  []string `json:"filters"` // granted
	QoS      byte     `json:"qos"`
	// Asked: a CONNECT was sent, and what it was answered is not known. The other side may have made a new session, and would then
	// say at the next CONNECT that there is one.
	Asked bool `json:"asked,omitempty"`
}

func (b *Bridge) loadSession() (s session, err error) {
	value, err := b.o.Broker.Store().Get(subscriptionSpace, b.o.Name)
	if err == nil && value != nil {
		err = json.Unmarshal(value, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read session: %w", err)
	}
	return s, nil
}

// keep makes the session durable, and forgets packet ids in the same commit.
func (l *link) keep(ctx context.Context, s session, forget []uint16) error {
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	if err := l.b.ids.forget(ctx, forget, edge.Put{Space: subscriptionSpace, Key: l.b.o.Name, Value: value}); err != nil {
		return fmt.Errorf("store session: %w", err)
	}
	l.session = s
	return nil
}

// ask is called before CONNECT is sent.
func (l *link) ask(ctx context.Context) error {
	b := l.b
	s, err := b.loadSession()
	if err != nil {
		return err
	}
	var forget []uint16
	l.unsure = s.Asked
	if s.Broker != b.o.URL || s.ClientID != b.o.ClientID { // the configuration has changed: packet ids of another session mean nothing here
		s = session{Broker: b.o.URL, ClientID: b.o.ClientID}
		forget, l.unsure = b.ids.all(), true
	}
	s.Asked = true
	return l.keep(ctx, s, forget)
}

// answered is called when CONNACK is there, before anything of the session is.
func (l *link) answered(ctx context.Context, c seen) error {
	s := l.session
	var forget []uint16
	switch {
	case c.refused: // that says nothing of the session
		s.Asked = l.unsure
	case !c.resumed: // what was subscribed to is gone, and so are the messages that ids stood for
		s.Filters, s.Asked, l.unsure = nil, false, false
		forget = l.b.ids.all()
	default:
		s.Asked = false
		if l.unsure {
			s.Filters = nil
		}
	}
	return l.keep(ctx, s, forget)
}
