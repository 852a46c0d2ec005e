package packet

import (
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestMochiTable checks the decoder against the table of cases of another implementation.
func TestMochiTable(t *testing.T) {
	// What we judge otherwise, with the reason.
	different := map[string]string{
		"Publish/dup":                              "DUP with QoS 0, which MQTT-3.3.1-2 forbids",
		"Publish/deny publishing to $SYS topics":   "the server's to deny",
		"Connack/miscellaneous protocol violation": "MQTT 5 codes in a 3.1.1 packet, here and below",
		"Connack/bad protocol version":             "MQTT 5 codes",
		"Connack/bad client id":                    "MQTT 5 codes",
		"Connack/server unavailable":               "MQTT 5 codes",
		"Connack/bad username or password":         "MQTT 5 codes",
		"Connack/not authorised":                   "MQTT 5 codes",
		"Disconnect/malformed reason code":         "a body of zero bytes is success (MQTT 5, 3.14.2.1)",
		"Pubrec/malformed reason code":             "two bytes are success (MQTT 5, 3.5.2.1)",
	}
	seen := 0
	for kind, cases := range packets.TPacketData {
		for _, c := range cases {
			name := packets.PacketNames[kind] + "/" + c.Desc
			if len(c.RawBytes) < 2 || c.Group == "encode" || c.Group == "copy" || c.FailFirst == nil && c.Packet.PacketID == 0 && kind == packets.Suback || different[name] != "" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				v := V311
				if c.Packet != nil && c.Packet.ProtocolVersion == 5 {
					v = V5
				}
				d, err := decodeAny(v, c.RawBytes[0], c.RawBytes[2:])
				seen++
				if c.FailFirst != nil {
					if _, ok := errors.AsType[*Error](err); !ok {
						t.Fatalf("got %v, they say %v", err, c.FailFirst)
					}
					return
				}
				if err != nil {
					t.Fatalf("got %v, they decode it", err)
				}
				compare(t, d, c.Packet)
			})
		}
	}
	if seen < 100 {
		t.Errorf("only %d cases ran", seen)
	}
}

func compare(t *testing.T, d decoded, want *packets.Packet) {
	t.Helper()
	check := func(what string, ok bool) {
		if !ok {
			t.Errorf("%s differs: %s", what, describe(d))
		}
	}
	p := d.Pub.Properties
	switch d.Type {
	case PUBLISH:
		check("topic", string(d.Pub.Topic) == want.TopicName)
		check("payload", string(d.Pub.Payload) == string(want.Payload))
		check("id", d.Pub.ID == want.PacketID)
		check("flags", d.Pub.QoS == want.FixedHeader.Qos && d.Pub.Dup == want.FixedHeader.Dup && d.Pub.Retain == want.FixedHeader.Retain)
		check("content type", string(p.ContentType) == want.Properties.ContentType)
		check("alias", p.TopicAlias == want.Properties.TopicAlias)
	case CONNECT:
		p = d.Con.Properties
		check("client id", string(d.Con.ClientID) == want.Connect.ClientIdentifier)
		check("keep alive", d.Con.KeepAlive == want.Connect.Keepalive)
		check("will", string(d.Con.WillTopic) == want.Connect.WillTopic && string(d.Con.WillPayload) == string(want.Connect.WillPayload))
		check("user", string(d.Con.User) == string(want.Connect.Username) && string(d.Con.Password) == string(want.Connect.Password))
		check("session expiry", p.SessionExpiry == want.Properties.SessionExpiryInterval)
	case CONNACK:
		p = d.Conack.Properties
		check("session present", d.Conack.SessionPresent == want.SessionPresent)
		check("assigned id", string(p.AssignedClientID) == want.Properties.AssignedClientID)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p = d.Ack.Properties
		check("id", d.Ack.ID == want.PacketID)
		check("reason", byte(d.Ack.Reason) == want.ReasonCode)
	case SUBSCRIBE:
		p = d.Sub.Properties
		check("id", d.Sub.ID == want.PacketID)
		check("filters", len(d.Sub.Topics) == len(want.Filters))
		for i := range d.Sub.Topics {
			s, w := d.Sub.Topics[i], want.Filters[i]
			check("filter", string(s.Filter) == w.Filter && s.QoS == w.Qos && s.NoLocal == w.NoLocal &&
				s.RetainAsPublished == w.RetainAsPublished && s.RetainHandling == w.RetainHandling)
		}
	case SUBACK, UNSUBACK:
		p = d.Suback.Properties
		check("id", d.Suback.ID == want.PacketID)
		check("reasons", len(d.Suback.Reasons) == len(want.ReasonCodes))
	case UNSUBSCRIBE:
		p = d.Unsub.Properties
		check("id", d.Unsub.ID == want.PacketID)
		check("filters", len(d.Unsub.Filters) == len(want.Filters))
	case DISCONNECT, AUTH:
		p = d.Dis.Properties
		check("reason", byte(d.Dis.Reason) == want.ReasonCode)
	}
	check("reason string", string(p.ReasonString) == want.Properties.ReasonString)
	users := 0
	for k, v := range p.User {
		check("user property", users < len(want.Properties.User) && string(k) == want.Properties.User[users].Key && string(v) == want.Properties.User[users].Val)
		users++
	}
	check("user properties", users == len(want.Properties.User))
}
