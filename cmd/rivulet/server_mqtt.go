package main

import (
	"time"

	"rivulet/edge/mqtt"
)

// mqttOptions are those of the MQTT front end; the configuration was checked.
func (s *server) mqttOptions() mqtt.Options {
	m := &s.cfg.MQTT
	return mqtt.Options{
		Broker: s.broker, Version: version(), Auth: s.auth, Log: s.log, Now: time.Now,
		MaxConnections: m.MaxConnections, MaxPacket: int(m.MaxPacket), MaxQueued: int(m.MaxQueued), MaxInFlight: m.MaxInFlight,
		ReceiveMaximum: uint16(m.ReceiveMaximum), MaxSubscriptions: m.MaxSubscriptions, MaxAllSubscriptions: m.MaxAllSubs, MaxTopicLevels: m.MaxTopicLevels,
		TopicAliases: uint16(m.TopicAliases), MaxKeepAlive: time.Duration(m.MaxKeepAlive), MaxSessionExpiry: time.Duration(m.MaxSessionExpiry),
		ResponsePrefix: m.ResponsePrefix, ConnectTimeout: time.Duration(s.cfg.Limits.LoginTimeout),
		Rate:           mqtt.Rate{Messages: float64(m.MessagesPerSecond), Bytes: float64(m.BytesPerSecond)},
		RateAll:        mqtt.Rate{Messages: float64(m.AllMessagesPerSecond), Bytes: float64(m.AllBytesPerSecond)},
		RateDisconnect: m.OnExcess == "disconnect",
	}
}
