package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// SessionInfo is a session, of a client that is connected or of one that may come back.
type SessionInfo struct {
	Client        string
	User          string // "": did not log in
	Connected     bool
	Addr          string        // of the connection
	Version       string        // of the protocol, when connected
	Expiry        time.Duration // that it outlives its connection; negative: for ever
	Left          time.Time     // when the client left; zero: it is connected, or was when the broker stopped
	Behind        uint64        // frames of the log that it has not been given; of a client that is away, those since
	InFlight      int           // messages sent and not acknowledged; of a client that is away
	QueuedBytes   int64         // that wait to be written
	Subscriptions []SubscriptionInfo
}

// SubscriptionInfo is one of a session's subscriptions.
type SubscriptionInfo struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                int
}

// Sessions lists all sessions by client id, without their subscriptions.
func (srv *Server) Sessions() ([]SessionInfo, error) {
	list := map[string]*SessionInfo{}
	var damaged error
	err := srv.broker.Store().Scan(sessionSpace, "", func(id string, value []byte) bool {
		var o storedSession
		if err := json.Unmarshal(value, &o); err != nil {
			damaged = fmt.Errorf("read session %s: %w", id, err)
			return true
		}
		if !o.expired(srv.o.Now()) {
			list[id] = o.info(id)
		}
		return true
	})
	if err = errors.Join(err, damaged); err != nil {
		return nil, err
	}
	srv.mu.Lock()
	conns := make([]*conn, 0, len(srv.clients))
	for _, c := range srv.clients {
		conns = append(conns, c)
	}
	srv.mu.Unlock()
	for _, c := range conns {
		s := c.sess.Load()
		if s == nil {
			continue
		}
		i := list[s.id]
		if i == nil {
			i = &SessionInfo{Client: s.id}
			list[s.id] = i
		}
		i.connected(c, s)
	}
	out := make([]SessionInfo, 0, len(list))
	for _, i := range list {
		out = append(out, *i)
	}
	slices.SortFunc(out, func(a, b SessionInfo) int { return strings.Compare(a.Client, b.Client) })
	return out, nil
}

func (o *storedSession) info(id string) *SessionInfo {
	i := &SessionInfo{Client: id, User: o.User, Expiry: time.Duration(o.Expiry) * time.Second}
	if o.Expiry == never {
		i.Expiry = -1
	}
	if o.Left > 0 {
		i.Left = time.Unix(o.Left, 0)
	}
	return i
}

func (i *SessionInfo) connected(c *conn, s *session) {
	i.Connected, i.Left = true, time.Time{}
	if p := c.shown.Load(); p != nil {
		i.User, i.Addr = p.Name, p.Addr
	}
	i.Version, i.QueuedBytes = c.version.String(), c.out.queued.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	i.Expiry = time.Duration(s.expiry) * time.Second
	if s.expiry == never {
		i.Expiry = -1
	}
}

// Session describes one session; ok is false when there is none.
func (srv *Server) Session(id string) (i SessionInfo, ok bool, err error) {
	srv.mu.Lock()
	c := srv.clients[id]
	srv.mu.Unlock()
	if c != nil {
		if s := c.sess.Load(); s != nil {
			i.Client = id
			i.connected(c, s)
			s.mu.Lock()
			for _, sub := range s.subs {
				i.Subscriptions = append(i.Subscriptions, SubscriptionInfo{sub.filter, sub.qos, sub.noLocal, sub.retainAsPublished, sub.id})
			}
			s.mu.Unlock()
			i.sort()
			return i, true, nil
		}
	}
	store := srv.broker.Store()
	value, err := store.Get(sessionSpace, id)
	if err != nil || value == nil {
		return i, false, err
	}
	var o storedSession
	if err := json.Unmarshal(value, &o); err != nil {
		return i, false, fmt.Errorf("read session %s: %w", id, err)
	}
	if o.expired(srv.o.Now()) {
		return i, false, nil
	}
	i = *o.info(id)
	if value, err = store.Get(positionSpace, id); err != nil {
		return i, false, err
	}
	if value != nil {
		s := &session{srv: srv, id: id}
		if err := s.decodePosition(value); err != nil {
			return i, false, fmt.Errorf("read position of session %s: %w", id, err)
		}
		i.Behind, i.InFlight = store.LastSeq()-min(s.cursor.seq, store.LastSeq()), s.window.used
	}
	var damaged error
	err = store.Scan(subscriptionSpace, id+"\x00", func(key string, value []byte) bool {
		var o storedSub
		if err := json.Unmarshal(value, &o); err != nil {
			damaged = fmt.Errorf("read subscriptions of session %s: %w", id, err)
			return true
		}
		i.Subscriptions = append(i.Subscriptions, SubscriptionInfo{key[len(id)+1:], o.QoS, o.NoLocal, o.RetainAsPublished, o.ID})
		return true
	})
	i.sort()
	return i, true, errors.Join(err, damaged)
}

func (i *SessionInfo) sort() {
	slices.SortFunc(i.Subscriptions, func(a, b SubscriptionInfo) int { return strings.Compare(a.Filter, b.Filter) })
}

// DeleteSession ends a session: its client, if connected, is disconnected, and what is stored of it is removed. ok is false when there
// was none.
func (srv *Server) DeleteSession(ctx context.Context, id string) (ok bool, err error) {
	for claimed := false; !claimed; {
		srv.mu.Lock()
		c, other := srv.clients[id], srv.claims[id]
		srv.mu.Unlock()
		if c != nil {
			if s := c.sess.Load(); s != nil {
				ok = true
				s.mu.Lock()
				s.expiry = 0 // it is forgotten when the client has gone
				s.mu.Unlock()
			}
			c.shut(&packet.Error{Reason: packet.AdministrativeAction, Detail: "the session was deleted"})
			other = c.detached
		}
		if other == nil {
			var release func()
			if release, claimed = srv.claim(id); claimed {
				defer release()
			}
			continue
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ok, ctx.Err()
		}
	}
	value, err := srv.broker.Store().Get(sessionSpace, id)
	if err != nil || value == nil {
		return ok, err
	}
	puts, err := srv.forgetSession(id)
	if err == nil {
		err = srv.broker.Store().Do(ctx, &edge.Commit{Puts: puts, Urgent: true})
	}
	if err != nil {
		return ok, fmt.Errorf("delete session %s: %w", id, err)
	}
	srv.cancelWill(id, false) // the session ends, so a will that waits is due (MQTT-3.1.2-8)
	return true, nil
}
