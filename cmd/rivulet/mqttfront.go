package main

import (
	"context"
	"time"

	edgehttp "rivulet/edge/http"
	"rivulet/edge/mqtt"
)

// mqttFront shows the MQTT front end to the API.
type mqttFront struct{ srv *mqtt.Server }

// Sessions implements edgehttp.MQTT.
func (m mqttFront) Sessions() ([]edgehttp.MQTTSession, error) {
	found, err := m.srv.Sessions()
	list := make([]edgehttp.MQTTSession, 0, len(found))
	for _, i := range found {
		list = append(list, sessionOf(i))
	}
	return list, err
}

// Session implements edgehttp.MQTT.
func (m mqttFront) Session(client string) (edgehttp.MQTTSession, bool, error) {
	i, ok, err := m.srv.Session(client)
	return sessionOf(i), ok, err
}

// DeleteSession implements edgehttp.MQTT.
func (m mqttFront) DeleteSession(ctx context.Context, client string) (bool, error) {
	return m.srv.DeleteSession(ctx, client)
}

func sessionOf(i mqtt.SessionInfo) edgehttp.MQTTSession {
	s := edgehttp.MQTTSession{
		Client: i.Client, User: i.User, Connected: i.Connected, Address: i.Addr, Version: i.Version, ExpirySeconds: int64(i.Expiry / time.Second),
		BehindFrames: i.Behind, InFlight: i.InFlight, QueuedBytes: i.QueuedBytes,
	}
	if i.Expiry < 0 {
		s.ExpirySeconds = -1
	}
	if !i.Left.IsZero() {
		left := i.Left.UTC()
		s.Left = &left
	}
	for _, sub := range i.Subscriptions {
		s.Subscriptions = append(s.Subscriptions, edgehttp.Subscription{
			Filter: sub.Filter, QoS: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished, ID: sub.ID,
		})
	}
	return s
}

// Figures implements edgehttp.MQTT.
func (m mqttFront) Figures() []edgehttp.Figure {
	st := m.srv.Stats()
	gauge := func(name string, v int64) edgehttp.Figure { return edgehttp.Figure{Name: name, Value: float64(v)} }
	counter := func(name string, v uint64) edgehttp.Figure {
		return edgehttp.Figure{Name: name, Value: float64(v), Counter: true}
	}
	return []edgehttp.Figure{
		gauge("rivulet_mqtt_connections", int64(st.Connections)),
		gauge("rivulet_mqtt_clients", int64(st.Clients)),
		gauge("rivulet_mqtt_subscriptions", int64(st.Subscriptions)),
		gauge("rivulet_mqtt_queued_bytes", st.QueuedBytes),
		counter("rivulet_mqtt_connections_accepted_total", st.Accepted),
		counter("rivulet_mqtt_connections_refused_total", st.Refused),
		counter("rivulet_mqtt_connections_unknown_total", st.Unknown),
		counter("rivulet_mqtt_connections_malformed_total", st.Malformed),
		counter("rivulet_mqtt_messages_published_total", st.Published),
		counter("rivulet_mqtt_messages_delivered_total", st.Delivered),
		counter("rivulet_mqtt_denied_total", st.Denied),
		counter("rivulet_mqtt_publishes_refused_full_total", st.RefusedFull),
		counter("rivulet_mqtt_publishers_throttled_total", st.Throttled),
		counter("rivulet_mqtt_sessions_overtaken_total", st.Overtaken),
		counter("rivulet_mqtt_records_missed_total", st.Missed),
		counter("rivulet_mqtt_deliveries_oversize_total", st.Oversize),
		counter("rivulet_mqtt_deliveries_expired_total", st.Expired),
		counter("rivulet_mqtt_live_dropped_total", st.LiveDropped),
		counter("rivulet_mqtt_subscribers_fell_behind_total", st.FellBehind),
		counter("rivulet_mqtt_bytes_in_total", st.BytesIn),
		counter("rivulet_mqtt_bytes_out_total", st.BytesOut),
	}
}
