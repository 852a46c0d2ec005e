package packet

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// decoded is any packet, by value, so that two can be compared.
type decoded struct {
	Type    Type
	Version Version
	Pub     Publish
	Ack     Ack
	Con     Connect
	Conack  Connack
	Sub     Subscribe
	Suback  Suback
	Unsub   Unsubscribe
	Dis     Disconnect
}

func decodeAny(v Version, first byte, body []byte) (d decoded, err error) {
	d.Type, d.Version = TypeOf(first), v
	switch d.Type {
	case CONNECT:
		err = d.Con.Decode(first, body)
		d.Version = d.Con.Version
	case CONNACK:
		err = d.Conack.Decode(v, first, body)
	case PUBLISH:
		err = d.Pub.Decode(v, first, body)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		err = d.Ack.Decode(v, first, body)
	case SUBSCRIBE:
		err = d.Sub.Decode(v, first, body)
	case SUBACK, UNSUBACK:
		err = d.Suback.Decode(v, first, body)
	case UNSUBSCRIBE:
		err = d.Unsub.Decode(v, first, body)
	case PINGREQ, PINGRESP:
		err = CheckPing(first, body)
	case DISCONNECT, AUTH:
		err = d.Dis.Decode(v, first, body)
	default:
		err = errors.New("reserved packet type")
	}
	return d, err
}

// encode makes the packet again, user properties included.
func (d *decoded) encode() []byte {
	for _, p := range []*Properties{
		&d.Pub.Properties, &d.Ack.Properties, &d.Con.Properties, &d.Con.WillProperties, &d.Conack.Properties, &d.Sub.Properties,
		&d.Suback.Properties, &d.Unsub.Properties, &d.Dis.Properties,
	} {
		for k, v := range p.User {
			p.UserRaw = AppendUser(p.UserRaw, k, v)
		}
	}
	switch d.Type {
	case CONNECT:
		return d.Con.Append(nil)
	case CONNACK:
		return d.Conack.Append(nil, d.Version)
	case PUBLISH:
		return d.Pub.Append(nil, d.Version)
	case SUBSCRIBE:
		return d.Sub.Append(nil, d.Version)
	case SUBACK, UNSUBACK:
		return d.Suback.Append(nil, d.Type, d.Version)
	case UNSUBSCRIBE:
		return d.Unsub.Append(nil, d.Version)
	case PINGREQ, PINGRESP:
		return AppendPing(nil, d.Type)
	case DISCONNECT, AUTH:
		return d.Dis.Append(nil, d.Type, d.Version)
	}
	return AppendAck(nil, d.Type, d.Version, d.Ack.ID, d.Ack.Reason)
}

// describe is a packet in words, so that the order in which properties lay does not matter.
func describe(d decoded) string {
	var b strings.Builder
	props := func(name string, p Properties) {
		fmt.Fprintf(&b, " %s{", name)
		for id := PropertyID(1); id < propCount; id++ {
			if p.Has(id) && id != PropUser {
				v, text := p.load(id)
				fmt.Fprintf(&b, "%d=%d%q ", id, v, text)
			}
		}
		for k, v := range p.User {
			fmt.Fprintf(&b, "%q=%q ", k, v)
		}
		b.WriteString("}")
	}
	p, c := d.Pub, d.Con
	fmt.Fprint(&b, d.Type, d.Version, p.ID, p.QoS, p.Dup, p.Retain, string(p.Topic), string(p.Payload), d.Ack.ID, d.Ack.Reason,
		c.Bridge, c.CleanStart, c.KeepAlive, string(c.ClientID), c.HasWill, c.WillQoS, c.WillRetain, string(c.WillTopic),
		string(c.WillPayload), c.HasUser, string(c.User), c.HasPassword, string(c.Password), d.Conack.SessionPresent,
		d.Conack.Reason, d.Sub.ID, d.Sub.Topics, d.Suback.ID, d.Suback.Reasons, d.Unsub.ID, d.Unsub.Filters, d.Dis.Reason)
	props("publish", p.Properties)
	props("connect", c.Properties)
	props("will", c.WillProperties)
	props("connack", d.Conack.Properties)
	props("subscribe", d.Sub.Properties)
	props("suback", d.Suback.Properties)
	props("unsubscribe", d.Unsub.Properties)
	props("disconnect", d.Dis.Properties)
	return b.String()
}

// str is a length-prefixed string.
func str(s string) string { return string(appendBytes(nil, s)) }

// head is a CONNECT's body up to its properties.
func head(v Version, flags byte) string {
	return str("MQTT") + string([]byte{byte(v), flags, 0, 60})
}

func TestMalformed(t *testing.T) {
	user := "\x26" + str("k") + str("v")
	for _, c := range []struct {
		name   string
		v      Version
		first  byte
		body   string
		reason Reason
	}{
		{"MQTT_3_1_2_1 protocol name", V311, 0x10, str("MQTX") + "\x04\x02\x00\x3c" + str("a"), UnsupportedVersion},
		{"MQTT_3_1_2_2 level 6", V311, 0x10, str("MQTT") + "\x06\x02\x00\x3c" + str("a"), UnsupportedVersion},
		{"MQTT_3_1_2_3 reserved connect flag", V311, 0x10, head(V311, 3) + str("a"), MalformedPacket},
		{"MQTT_3_1_2_11 will QoS without will", V311, 0x10, head(V311, 2|8) + str("a"), MalformedPacket},
		{"MQTT_3_1_2_12 will QoS 3", V311, 0x10, head(V311, 2|4|0x18) + str("a") + str("w") + str("x"), MalformedPacket},
		{"MQTT_3_1_2_13 will retain without will", V311, 0x10, head(V311, 2|0x20) + str("a"), MalformedPacket},
		{"MQTT_3_1_2_22 password without user", V311, 0x10, head(V311, 2|0x40) + str("a") + str("p"), MalformedPacket},
		{"MQTT_3_1_3_4 client id UTF-8", V311, 0x10, head(V311, 2) + str("a\xff"), MalformedPacket},
		{"MQTT_3_1_3_11 user name UTF-8", V311, 0x10, head(V311, 2|0x80) + str("a") + str("\xed\xa0\x80"), MalformedPacket},
		{"MQTT_1_5_4_2 U+0000", V311, 0x10, head(V311, 2) + str("a\x00b"), MalformedPacket},
		{"connect truncated", V311, 0x10, head(V311, 2|4) + str("a") + str("w"), MalformedPacket},
		{"connect with a tail", V311, 0x10, head(V311, 2) + str("a") + "x", MalformedPacket},
		{"connect flags in the fixed header", V311, 0x11, head(V311, 2) + str("a"), MalformedPacket},
		{"will topic with wildcard", V311, 0x10, head(V311, 2|4) + str("a") + str("w/#") + str("x"), InvalidTopic},
		{"receive maximum 0", V5, 0x10, head(V5, 2) + "\x03\x21\x00\x00" + str("a"), ProtocolError},
		{"maximum packet size 0", V5, 0x10, head(V5, 2) + "\x05\x27\x00\x00\x00\x00" + str("a"), ProtocolError},
		{"session expiry twice", V5, 0x10, head(V5, 2) + "\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01" + str("a"), ProtocolError},
		{"request problem information 2", V5, 0x10, head(V5, 2) + "\x02\x17\x02" + str("a"), ProtocolError},
		{"authentication data without method", V5, 0x10, head(V5, 2) + "\x04\x16\x00\x01x" + str("a"), ProtocolError},
		{"topic alias in CONNECT", V5, 0x10, head(V5, 2) + "\x03\x23\x00\x01" + str("a"), ProtocolError},
		{"will delay in CONNECT's own properties", V5, 0x10, head(V5, 2) + "\x05\x18\x00\x00\x00\x01" + str("a"), ProtocolError},
		{"property length beyond the packet", V5, 0x10, head(V5, 2) + "\x7f", MalformedPacket},
		{"property length of five bytes", V5, 0x10, head(V5, 2) + "\x80\x80\x80\x80\x01", MalformedPacket},

		{"MQTT_3_3_1_2 DUP with QoS 0", V311, 0x38, str("t"), MalformedPacket},
		{"MQTT_3_3_1_4 QoS 3", V311, 0x36, str("t") + "\x00\x01", MalformedPacket},
		{"MQTT_2_2_1_3 packet id 0", V311, 0x32, str("t") + "\x00\x00", ProtocolError},
		{"MQTT_3_3_2_1 topic UTF-8", V311, 0x30, str("t\xc0\x80"), MalformedPacket},
		{"MQTT_3_3_2_1 topic U+0000", V311, 0x30, str("longer topic\x00"), MalformedPacket},
		{"MQTT_3_3_2_2 topic with +", V311, 0x30, str("a/+"), InvalidTopic},
		{"MQTT_3_3_2_2 topic with #", V311, 0x30, str("a/long/topic/name/#"), InvalidTopic},
		{"MQTT_4_7_3_1 empty topic", V311, 0x30, str(""), ProtocolError},
		{"empty topic without alias", V5, 0x30, str("") + "\x00", ProtocolError},
		{"publish cut in the topic", V311, 0x30, "\x00\x05ab", MalformedPacket},
		{"publish cut in the packet id", V311, 0x32, str("t") + "\x00", MalformedPacket},
		{"publish without properties", V5, 0x30, str("t"), MalformedPacket},
		{"payload format 2", V5, 0x30, str("t") + "\x02\x01\x02", ProtocolError},
		{"payload format twice", V5, 0x30, str("t") + "\x04\x01\x01\x01\x01", ProtocolError},
		{"content type twice", V5, 0x30, str("t") + "\x08\x03\x00\x01a\x03\x00\x01b", ProtocolError},
		{"content type UTF-8", V5, 0x30, str("t") + "\x04\x03\x00\x01\xff", MalformedPacket},
		{"MQTT_3_3_2_14 response topic with wildcard", V5, 0x30, str("t") + "\x05\x08\x00\x02/#", ProtocolError},
		{"subscription id 0", V5, 0x30, str("t") + "\x02\x0b\x00", ProtocolError},
		{"receive maximum in PUBLISH", V5, 0x30, str("t") + "\x03\x21\x00\x05", ProtocolError},
		{"unknown property", V5, 0x30, str("t") + "\x02\x7e\x00", MalformedPacket},
		{"property 0", V5, 0x30, str("t") + "\x02\x00\x00", MalformedPacket},
		{"property cut short", V5, 0x30, str("t") + "\x03\x02\x00\x00", MalformedPacket},
		{"user property cut short", V5, 0x30, str("t") + "\x04\x26\x00\x01k", MalformedPacket},
		{"MQTT_1_5_7_1 user property UTF-8", V5, 0x30, str("t") + "\x07\x26" + str("\xff") + str("v"), MalformedPacket},

		{"PUBACK flags", V311, 0x41, "\x00\x01", MalformedPacket},
		{"PUBREL flags", V311, 0x60, "\x00\x01", MalformedPacket},
		{"PUBACK short", V311, 0x40, "\x00", MalformedPacket},
		{"PUBACK id 0", V311, 0x40, "\x00\x00", ProtocolError},
		{"PUBACK long", V311, 0x40, "\x00\x01\x00", MalformedPacket},
		{"PUBACK reason", V5, 0x40, "\x00\x01\x92", ProtocolError},
		{"PUBREL reason", V5, 0x62, "\x00\x01\x10", ProtocolError},
		{"PUBCOMP reason", V5, 0x70, "\x00\x01\x80", ProtocolError},
		{"PUBACK tail", V5, 0x40, "\x00\x01\x00\x00x", MalformedPacket},
		{"PUBACK property", V5, 0x40, "\x00\x01\x00\x02\x01\x01", ProtocolError},

		{"MQTT_3_8_1_1 SUBSCRIBE flags", V311, 0x80, "\x00\x01" + str("a") + "\x00", MalformedPacket},
		{"MQTT_3_8_3_1 filter UTF-8", V311, 0x82, "\x00\x01" + str("\xff") + "\x00", MalformedPacket},
		{"MQTT_3_8_3_2 no filter", V311, 0x82, "\x00\x01", ProtocolError},
		{"MQTT_3_8_3_4 reserved bits", V311, 0x82, "\x00\x01" + str("a") + "\x04", MalformedPacket},
		{"MQTT_3_8_3_5 reserved bits", V5, 0x82, "\x00\x01\x00" + str("a") + "\x40", MalformedPacket},
		{"requested QoS 3", V311, 0x82, "\x00\x01" + str("a") + "\x03", MalformedPacket},
		{"retain handling 3", V5, 0x82, "\x00\x01\x00" + str("a") + "\x30", ProtocolError},
		{"MQTT_3_8_3_4 no local and shared", V5, 0x82, "\x00\x01\x00" + str("$share/g/a") + "\x04", ProtocolError},
		{"SUBSCRIBE id 0", V311, 0x82, "\x00\x00" + str("a") + "\x00", ProtocolError},
		{"SUBSCRIBE without options", V311, 0x82, "\x00\x01" + str("a"), MalformedPacket},
		{"two subscription ids", V5, 0x82, "\x00\x01\x04\x0b\x01\x0b\x02" + str("a") + "\x00", ProtocolError},
		{"MQTT_3_10_1_1 UNSUBSCRIBE flags", V311, 0xa0, "\x00\x01" + str("a"), MalformedPacket},
		{"MQTT_3_10_3_2 no filter", V311, 0xa2, "\x00\x01", ProtocolError},
		{"UNSUBSCRIBE cut", V311, 0xa2, "\x00\x01\x00", MalformedPacket},

		{"PINGREQ flags", V311, 0xc1, "", MalformedPacket},
		{"PINGREQ body", V311, 0xc0, "x", MalformedPacket},
		{"MQTT_3_14_1_1 DISCONNECT flags", V5, 0xe1, "", MalformedPacket},
		{"DISCONNECT body", V311, 0xe0, "\x00", MalformedPacket},
		{"DISCONNECT reason", V5, 0xe0, "\x01", ProtocolError},
		{"DISCONNECT property", V5, 0xe0, "\x00\x03\x21\x00\x01", ProtocolError},
		{"AUTH in 3.1.1", V311, 0xf0, "", ProtocolError},
		{"AUTH reason", V5, 0xf0, "\x80", ProtocolError},
		{"user property in PUBACK is fine", V5, 0x40, "\x00\x01\x00\x07" + user, Success},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeAny(c.v, c.first, []byte(c.body))
			var e *Error
			switch {
			case c.reason == Success && err != nil:
				t.Fatal(err)
			case c.reason != Success && !errors.As(err, &e):
				t.Fatalf("got %v, want reason 0x%02x", err, byte(c.reason))
			case c.reason != Success && e.Reason != c.reason:
				t.Fatalf("got %v, want reason 0x%02x", err, byte(c.reason))
			}
		})
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		size int
		body string
		ok   bool
		bad  bool
	}{
		{"", 0, "", false, false},
		{"\x30", 0, "", false, false},
		{"\x30\x00", 2, "", true, false},
		{"\x30\x02ab", 4, "ab", true, false},
		{"\x30\x02a", 4, "", false, false},
		{"\x30\x02abc", 4, "ab", true, false},
		{"\x30\x80", 0, "", false, false},
		{"\x30\x80\x01", 131, "", false, false},
		{"\x30\x82\x00ab", 5, "ab", true, false}, // padded, as devices that reserve the bytes send it
		{"\x30\xff\xff\xff\xff", 0, "", false, true},
		{"\x30\xff\xff\xff\x7f", MaxSize, "", false, false},
	} {
		size, body, err := Split([]byte(c.in))
		if size != c.size || (body != nil) != c.ok || string(body) != c.body || (err != nil) != c.bad {
			t.Errorf("Split(%x) = %d, %q, %v", c.in, size, body, err)
		}
	}
}

func TestTopics(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": true, "": false, "/": true, "a/b": true, "+": false, "a/#": false, "a\x00": false, "ümlaut/ä": true,
		"exactly8": true, "exactly+": false, "#xactly8": false, "long enough to need words\x00": false,
		"long enough to need words é": true, "long enough to need words \xff": false, "12345678é+": false,
		"~~~~~~~~": true, "\x01\x01\x01\x01\x01\x01\x01\x01": true, "\x22\x24\x2a\x2c\x22\x24\x2a\x2c": true,
	} {
		if got := ValidTopic([]byte(topic)); got != want {
			t.Errorf("ValidTopic(%q) = %v", topic, got)
		}
	}
	for filter, want := range map[string]bool{
		"#": true, "+": true, "a/+/b/#": true, "a#": false, "a/#/b": false, "a+/b": false, "": false, "+a": false, "/+": true, "a\x00": false,
	} {
		if got := ValidFilter([]byte(filter)); got != want {
			t.Errorf("ValidFilter(%q) = %v", filter, got)
		}
	}
	for filter, want := range map[string]string{"$share/g/a/b": "g:a/b:true", "$share/g": ":g:false", "$share//a": ":a:false", "$share/+/a": "+:a:false", "a": ":a:true"} {
		name, rest, _, ok := CutShared([]byte(filter))
		if got := fmt.Sprintf("%s:%s:%v", name, rest, ok); got != want && ok {
			t.Errorf("CutShared(%q) = %s, want %s", filter, got, want)
		} else if strings.HasSuffix(want, "false") == ok {
			t.Errorf("CutShared(%q): ok = %v", filter, ok)
		}
	}
}

// FuzzDecode: no input panics, and what decodes means the same once encoded and decoded again.
func FuzzDecode(f *testing.F) {
	f.Add(byte(4), []byte("\x32\x0a\x00\x03a/b\x00\x01xyz"))
	f.Add(byte(5), []byte("\x30\x0d\x00\x01t\x07\x26\x00\x01k\x00\x01vxy"))
	f.Add(byte(5), []byte("\x82\x09\x00\x01\x02\x0b\x05\x00\x01a\x2d"))
	f.Add(byte(5), []byte("\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x01\x00\x00"))
	f.Add(byte(5), []byte("\x40\x03\x00\x01\x10"))
	f.Add(byte(5), []byte("\xe0\x02\x04\x00"))
	f.Add(byte(4), []byte("\xa2\x05\x00\x01\x00\x01a"))
	f.Add(byte(5), []byte("\x20\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, v byte, in []byte) {
		version := V311 + Version(v&1)
		_, body, err := Split(in)
		if err != nil || body == nil {
			return
		}
		d, err := decodeAny(version, in[0], body)
		if err != nil {
			return
		}
		if (d.Type == PUBLISH || d.Type == SUBACK || d.Type == UNSUBACK) && bytes.Count(in, []byte{11}) > 1 {
			return // several subscription ids: only the first is encoded again
		}
		again := d.encode()
		size, body2, err := Split(again)
		if err != nil || size != len(again) {
			t.Fatalf("encoded %x: Split says %d, %v", again, size, err)
		}
		d2, err := decodeAny(d.Version, again[0], body2)
		if err != nil {
			t.Fatalf("%x encoded as %x: %v", in, again, err)
		}
		if diff := cmp.Diff(describe(d), describe(d2)); diff != "" {
			t.Fatalf("%x encoded as %x: %s", in, again, diff)
		}
	})
}

func publish200(v Version, qos byte) []byte {
	p := Publish{Topic: []byte("factory/line1/telemetry/sensor-17"), QoS: qos, ID: 7, Payload: bytes.Repeat([]byte("x"), 200)}
	return p.Append(nil, v)
}

func BenchmarkDecodePublish(b *testing.B) {
	for _, v := range []Version{V311, V5} {
		b.Run(v.String(), func(b *testing.B) {
			in := publish200(v, 1)
			b.ReportAllocs()
			var p Publish
			for b.Loop() {
				_, body, _ := Split(in)
				if err := p.Decode(v, in[0], body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("5.0 properties", func(b *testing.B) {
		p := Publish{Topic: []byte("factory/line1/telemetry/sensor-17"), QoS: 1, ID: 7, Payload: bytes.Repeat([]byte("x"), 200)}
		p.Properties.ContentType = []byte("application/json")
		p.Properties.MessageExpiry = 60
		p.Properties.Mark(PropContentType, PropMessageExpiry)
		p.Properties.UserRaw = AppendUser(AppendUser(nil, "unit", "celsius"), "site", "north")
		in := p.Append(nil, V5)
		b.ReportAllocs()
		for b.Loop() {
			_, body, _ := Split(in)
			if err := p.Decode(V5, in[0], body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendPublish(b *testing.B) {
	p := Publish{Topic: []byte("factory/line1/telemetry/sensor-17"), QoS: 1, ID: 7, Payload: bytes.Repeat([]byte("x"), 200)}
	for _, v := range []Version{V311, V5} {
		b.Run(v.String(), func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out = p.Append(out[:0], v)
			}
		})
	}
}
