package packet

import "encoding/binary"

// PropertyID names an MQTT 5 property.
type PropertyID byte

// The properties (MQTT 5, 2.2.2.2).
const (
	PropPayloadFormat           PropertyID = 1
	PropMessageExpiry           PropertyID = 2
	PropContentType             PropertyID = 3
	PropResponseTopic           PropertyID = 8
	PropCorrelationData         PropertyID = 9
	PropSubscriptionID          PropertyID = 11
	PropSessionExpiry           PropertyID = 17
	PropAssignedClientID        PropertyID = 18
	PropServerKeepAlive         PropertyID = 19
	PropAuthMethod              PropertyID = 21
	PropAuthData                PropertyID = 22
	PropRequestProblemInfo      PropertyID = 23
	PropWillDelay               PropertyID = 24
	PropRequestResponseInfo     PropertyID = 25
	PropResponseInfo            PropertyID = 26
	PropServerReference         PropertyID = 28
	PropReasonString            PropertyID = 31
	PropReceiveMaximum          PropertyID = 33
	PropTopicAliasMaximum       PropertyID = 34
	PropTopicAlias              PropertyID = 35
	PropMaximumQoS              PropertyID = 36
	PropRetainAvailable         PropertyID = 37
	PropUser                    PropertyID = 38
	PropMaximumPacketSize       PropertyID = 39
	PropWildcardAvailable       PropertyID = 40
	PropSubscriptionIDAvailable PropertyID = 41
	PropSharedAvailable         PropertyID = 42
	propCount                              = 43
)

// form is how a property's value is written.
type form byte

const (
	formNone form = iota
	formBool      // one byte, 0 or 1
	form16
	form32
	formVarint
	formText
	formBinary
	formPair
)

// in is the set of packet types that may carry a property; bit 0 is the will in CONNECT.
type in uint16

const inWill in = 1

func inOf(types ...Type) (s in) {
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

type rule struct {
	form     form
	where    in
	nonzero  bool // zero is a protocol error
	repeated in   // where it may come more than once
}

// rules is read only.
var rules = [propCount]rule{
	PropPayloadFormat:           {form: formBool, where: inWill | inOf(PUBLISH)},
	PropMessageExpiry:           {form: form32, where: inWill | inOf(PUBLISH)},
	PropContentType:             {form: formText, where: inWill | inOf(PUBLISH)},
	PropResponseTopic:           {form: formText, where: inWill | inOf(PUBLISH)},
	PropCorrelationData:         {form: formBinary, where: inWill | inOf(PUBLISH)},
	PropSubscriptionID:          {form: formVarint, where: inOf(PUBLISH, SUBSCRIBE), nonzero: true, repeated: inOf(PUBLISH)},
	PropSessionExpiry:           {form: form32, where: inOf(CONNECT, CONNACK, DISCONNECT)},
	PropAssignedClientID:        {form: formText, where: inOf(CONNACK)},
	PropServerKeepAlive:         {form: form16, where: inOf(CONNACK)},
	PropAuthMethod:              {form: formText, where: inOf(CONNECT, CONNACK, AUTH)},
	PropAuthData:                {form: formBinary, where: inOf(CONNECT, CONNACK, AUTH)},
	PropRequestProblemInfo:      {form: formBool, where: inOf(CONNECT)},
	PropWillDelay:               {form: form32, where: inWill},
	PropRequestResponseInfo:     {form: formBool, where: inOf(CONNECT)},
	PropResponseInfo:            {form: formText, where: inOf(CONNACK)},
	PropServerReference:         {form: formText, where: inOf(CONNACK, DISCONNECT)},
	PropReasonString:            {form: formText, where: inOf(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},
	PropReceiveMaximum:          {form: form16, where: inOf(CONNECT, CONNACK), nonzero: true},
	PropTopicAliasMaximum:       {form: form16, where: inOf(CONNECT, CONNACK)},
	PropTopicAlias:              {form: form16, where: inOf(PUBLISH)}, // 0 has a reason code of its own: the server's to check
	PropMaximumQoS:              {form: formBool, where: inOf(CONNACK)},
	PropRetainAvailable:         {form: formBool, where: inOf(CONNACK)},
	PropUser:                    {form: formPair, where: ^in(0)&^inOf(0, PINGREQ, PINGRESP) | inWill, repeated: ^in(0)},
	PropMaximumPacketSize:       {form: form32, where: inOf(CONNECT, CONNACK), nonzero: true},
	PropWildcardAvailable:       {form: formBool, where: inOf(CONNACK)},
	PropSubscriptionIDAvailable: {form: formBool, where: inOf(CONNACK)},
	PropSharedAvailable:         {form: formBool, where: inOf(CONNACK)},
}

// Properties are those of one packet. A field means something when Has says so. For encoding, set a field with its Set
// method or by Mark.
type Properties struct {
	set uint64
	raw []byte // the section as it came, for User and SubscriptionIDs

	PayloadFormat           byte
	RequestProblemInfo      byte
	RequestResponseInfo     byte
	MaximumQoS              byte
	RetainAvailable         byte
	WildcardAvailable       byte
	SubscriptionIDAvailable byte
	SharedAvailable         byte
	ServerKeepAlive         uint16
	ReceiveMaximum          uint16
	TopicAliasMaximum       uint16
	TopicAlias              uint16
	MessageExpiry           uint32
	SessionExpiry           uint32
	WillDelay               uint32
	MaximumPacketSize       uint32
	SubscriptionID          int // the first one
	ContentType             []byte
	ResponseTopic           []byte
	CorrelationData         []byte
	AssignedClientID        []byte
	AuthMethod              []byte
	AuthData                []byte
	ResponseInfo            []byte
	ServerReference         []byte
	ReasonString            []byte

	// UserRaw, for encoding, is user properties one behind the other as AppendUser makes them.
	UserRaw []byte
}

// Has reports whether the property is there.
func (p *Properties) Has(id PropertyID) bool { return p.set>>id&1 != 0 }

// Clone copies properties that were decoded, with the bytes that they alias.
func (p *Properties) Clone() Properties {
	var c Properties
	if len(p.raw) > 0 {
		if err := c.decode(^in(0), append([]byte(nil), p.raw...)); err != nil {
			panic("BUG: properties that were decoded cannot be decoded: " + err.Error())
		}
	}
	return c
}

// Mark says that fields were set, so that they are encoded.
func (p *Properties) Mark(ids ...PropertyID) {
	for _, id := range ids {
		p.set |= 1 << id
	}
}

// Unmark leaves fields out of the encoding.
func (p *Properties) Unmark(ids ...PropertyID) {
	for _, id := range ids {
		p.set &^= 1 << id
	}
}

// Empty reports whether there are none.
func (p *Properties) Empty() bool { return p.set == 0 }

// cut decodes the length and the section at the start of b and returns what follows it. t is the packet type, 0
// for the will.
func (p *Properties) cut(t Type, b []byte) (rest []byte, err error) {
	if len(b) > 0 && b[0] == 0 {
		if p.set != 0 {
			*p = Properties{}
		}
		return b[1:], nil
	}
	*p = Properties{}
	n, w := varint(b)
	if w <= 0 || len(b) < w+n {
		return nil, errTruncated
	}
	return b[w+n:], p.decode(1<<t, b[w:w+n:w+n])
}

func (p *Properties) decode(where in, b []byte) error {
	p.raw = b
	for len(b) > 0 {
		id := PropertyID(b[0])
		if id >= propCount || rules[id].form == formNone {
			return malformed("unknown property (MQTT 5, 2.2.2.2)")
		}
		r := &rules[id]
		if r.where&where == 0 {
			return protocol("property of another packet type (MQTT 5, 2.2.2.2)")
		}
		if p.Has(id) && r.repeated&where == 0 {
			return protocol("property given twice (MQTT 5, 2.2.2.2)")
		}
		v, text, rest, err := cutValue(r.form, b[1:])
		if err != nil {
			return err
		}
		if r.nonzero && v == 0 {
			return protocol("property must not be 0")
		}
		if id == PropSubscriptionID && p.Has(id) {
			v = p.SubscriptionID
		}
		p.set |= 1 << id
		p.store(id, v, text)
		b = rest
	}
	if p.Has(PropAuthData) && !p.Has(PropAuthMethod) {
		return protocol("authentication data without a method (MQTT 5, 3.1.2.11.10)")
	}
	if p.Has(PropResponseTopic) && !ValidTopic(p.ResponseTopic) {
		return protocol("response topic with wildcards (MQTT-3.3.2-14)")
	}
	return nil
}

func cutValue(f form, b []byte) (v int, text, rest []byte, err error) {
	short := false
	switch f {
	case formBool:
		if short = len(b) < 1; short {
			break
		}
		if b[0] > 1 {
			return 0, nil, nil, protocol("property is neither 0 nor 1")
		}
		return int(b[0]), nil, b[1:], nil
	case form16:
		if short = len(b) < 2; short {
			break
		}
		return int(binary.BigEndian.Uint16(b)), nil, b[2:], nil
	case form32:
		if short = len(b) < 4; short {
			break
		}
		return int(int32(binary.BigEndian.Uint32(b))), nil, b[4:], nil
	case formVarint:
		v, w := varint(b)
		if short = w <= 0; short {
			break
		}
		return v, nil, b[w:], nil
	case formText, formBinary:
		text, rest, ok := cut16(b)
		if short = !ok; short {
			break
		}
		if f == formText && !ValidText(text) {
			return 0, nil, nil, malformed("property is not UTF-8 or holds U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2)")
		}
		return 0, text, rest, nil
	case formPair:
		key, rest, ok := cut16(b)
		var val []byte
		if ok {
			val, rest, ok = cut16(rest)
		}
		if short = !ok; short {
			break
		}
		if !ValidText(key) || !ValidText(val) {
			return 0, nil, nil, malformed("user property is not UTF-8 or holds U+0000 (MQTT-1.5.7-1)")
		}
		return 0, nil, rest, nil
	}
	return 0, nil, nil, errTruncated
}

func (p *Properties) store(id PropertyID, v int, text []byte) {
	switch id {
	case PropPayloadFormat:
		p.PayloadFormat = byte(v)
	case PropMessageExpiry:
		p.MessageExpiry = uint32(v)
	case PropContentType:
		p.ContentType = text
	case PropResponseTopic:
		p.ResponseTopic = text
	case PropCorrelationData:
		p.CorrelationData = text
	case PropSubscriptionID:
		p.SubscriptionID = v
	case PropSessionExpiry:
		p.SessionExpiry = uint32(v)
	case PropAssignedClientID:
		p.AssignedClientID = text
	case PropServerKeepAlive:
		p.ServerKeepAlive = uint16(v)
	case PropAuthMethod:
		p.AuthMethod = text
	case PropAuthData:
		p.AuthData = text
	case PropRequestProblemInfo:
		p.RequestProblemInfo = byte(v)
	case PropWillDelay:
		p.WillDelay = uint32(v)
	case PropRequestResponseInfo:
		p.RequestResponseInfo = byte(v)
	case PropResponseInfo:
		p.ResponseInfo = text
	case PropServerReference:
		p.ServerReference = text
	case PropReasonString:
		p.ReasonString = text
	case PropReceiveMaximum:
		p.ReceiveMaximum = uint16(v)
	case PropTopicAliasMaximum:
		p.TopicAliasMaximum = uint16(v)
	case PropTopicAlias:
		p.TopicAlias = uint16(v)
	case PropMaximumQoS:
		p.MaximumQoS = byte(v)
	case PropRetainAvailable:
		p.RetainAvailable = byte(v)
	case PropMaximumPacketSize:
		p.MaximumPacketSize = uint32(v)
	case PropWildcardAvailable:
		p.WildcardAvailable = byte(v)
	case PropSubscriptionIDAvailable:
		p.SubscriptionIDAvailable = byte(v)
	case PropSharedAvailable:
		p.SharedAvailable = byte(v)
	case PropUser: // kept in raw, see User
	}
}

// User yields the user properties in order.
func (p *Properties) User(yield func(key, value []byte) bool) {
	if !p.Has(PropUser) {
		return
	}
	for b := p.raw; len(b) > 0; {
		if PropertyID(b[0]) != PropUser {
			_, _, b, _ = cutValue(rules[b[0]].form, b[1:])
			continue
		}
		key, rest, _ := cut16(b[1:])
		val, rest, _ := cut16(rest)
		if !yield(key, val) {
			return
		}
		b = rest
	}
}

// SubscriptionIDs yields the subscription identifiers of a PUBLISH.
func (p *Properties) SubscriptionIDs(yield func(id int) bool) {
	if !p.Has(PropSubscriptionID) {
		return
	}
	for b := p.raw; len(b) > 0; {
		v, _, rest, _ := cutValue(rules[b[0]].form, b[1:])
		if PropertyID(b[0]) == PropSubscriptionID && !yield(v) {
			return
		}
		b = rest
	}
}

// AppendUser appends one encoded user property.
func AppendUser[T string | []byte](dst []byte, key, value T) []byte {
	dst = append(dst, byte(PropUser))
	return appendBytes(appendBytes(dst, key), value)
}

// append appends the section with its length.
func (p *Properties) append(dst []byte) []byte {
	if p.set == 0 && len(p.UserRaw) == 0 {
		return append(dst, 0)
	}
	at := len(dst)
	for id := PropertyID(1); id < propCount; id++ {
		if !p.Has(id) || id == PropUser {
			continue
		}
		v, text := p.load(id)
		dst = append(dst, byte(id))
		switch rules[id].form {
		case formBool:
			dst = append(dst, byte(v))
		case form16:
			dst = binary.BigEndian.AppendUint16(dst, uint16(v))
		case form32:
			dst = binary.BigEndian.AppendUint32(dst, v)
		case formVarint:
			dst = AppendVarint(dst, int(v))
		default:
			dst = appendBytes(dst, text)
		}
	}
	dst = append(dst, p.UserRaw...)
	return closeLength(dst, at)
}

func (p *Properties) load(id PropertyID) (v uint32, text []byte) {
	switch id {
	case PropPayloadFormat:
		v = uint32(p.PayloadFormat)
	case PropMessageExpiry:
		v = p.MessageExpiry
	case PropContentType:
		text = p.ContentType
	case PropResponseTopic:
		text = p.ResponseTopic
	case PropCorrelationData:
		text = p.CorrelationData
	case PropSubscriptionID:
		v = uint32(p.SubscriptionID)
	case PropSessionExpiry:
		v = p.SessionExpiry
	case PropAssignedClientID:
		text = p.AssignedClientID
	case PropServerKeepAlive:
		v = uint32(p.ServerKeepAlive)
	case PropAuthMethod:
		text = p.AuthMethod
	case PropAuthData:
		text = p.AuthData
	case PropRequestProblemInfo:
		v = uint32(p.RequestProblemInfo)
	case PropWillDelay:
		v = p.WillDelay
	case PropRequestResponseInfo:
		v = uint32(p.RequestResponseInfo)
	case PropResponseInfo:
		text = p.ResponseInfo
	case PropServerReference:
		text = p.ServerReference
	case PropReasonString:
		text = p.ReasonString
	case PropReceiveMaximum:
		v = uint32(p.ReceiveMaximum)
	case PropTopicAliasMaximum:
		v = uint32(p.TopicAliasMaximum)
	case PropTopicAlias:
		v = uint32(p.TopicAlias)
	case PropMaximumQoS:
		v = uint32(p.MaximumQoS)
	case PropRetainAvailable:
		v = uint32(p.RetainAvailable)
	case PropMaximumPacketSize:
		v = p.MaximumPacketSize
	case PropWildcardAvailable:
		v = uint32(p.WildcardAvailable)
	case PropSubscriptionIDAvailable:
		v = uint32(p.SubscriptionIDAvailable)
	case PropSharedAvailable:
		v = uint32(p.SharedAvailable)
	case PropUser:
	}
	return v, text
}
