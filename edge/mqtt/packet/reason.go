package packet

import "fmt"

// Reason is an MQTT 5 reason code.
type Reason byte

// The reason codes (MQTT 5, 2.4).
const (
	Success                    Reason = 0x00 // also: normal disconnection, granted QoS 0
	GrantedQoS1                Reason = 0x01
	GrantedQoS2                Reason = 0x02
	DisconnectWithWill         Reason = 0x04
	NoMatchingSubscribers      Reason = 0x10
	NoSubscriptionExisted      Reason = 0x11
	ContinueAuthentication     Reason = 0x18
	ReAuthenticate             Reason = 0x19
	Unspecified                Reason = 0x80
	MalformedPacket            Reason = 0x81
	ProtocolError              Reason = 0x82
	ImplementationSpecific     Reason = 0x83
	UnsupportedVersion         Reason = 0x84
	InvalidClientID            Reason = 0x85
	BadUserNameOrPassword      Reason = 0x86
	NotAuthorized              Reason = 0x87
	ServerUnavailable          Reason = 0x88
	ServerBusy                 Reason = 0x89
	Banned                     Reason = 0x8a
	ServerShuttingDown         Reason = 0x8b
	BadAuthenticationMethod    Reason = 0x8c
	KeepAliveTimeout           Reason = 0x8d
	SessionTakenOver           Reason = 0x8e
	InvalidFilter              Reason = 0x8f
	InvalidTopic               Reason = 0x90
	PacketIDInUse              Reason = 0x91
	PacketIDNotFound           Reason = 0x92
	ReceiveMaximumExceeded     Reason = 0x93
	InvalidTopicAlias          Reason = 0x94
	PacketTooLarge             Reason = 0x95
	MessageRateTooHigh         Reason = 0x96
	QuotaExceeded              Reason = 0x97
	AdministrativeAction       Reason = 0x98
	InvalidPayloadFormat       Reason = 0x99
	RetainNotSupported         Reason = 0x9a
	QoSNotSupported            Reason = 0x9b
	UseAnotherServer           Reason = 0x9c
	ServerMoved                Reason = 0x9d
	SharedNotSupported         Reason = 0x9e
	ConnectionRateExceeded     Reason = 0x9f
	MaximumConnectTime         Reason = 0xa0
	SubscriptionIDNotSupported Reason = 0xa1
	WildcardNotSupported       Reason = 0xa2
)

// Failed reports whether the code means that something was refused.
func (r Reason) Failed() bool { return r >= 0x80 }

// Error is why a packet was refused.
type Error struct {
	Reason Reason
	Detail string // what is wrong, with the number of the conformance statement where there is one
}

func (e *Error) Error() string { return fmt.Sprintf("%s (0x%02x)", e.Detail, byte(e.Reason)) }

func malformed(detail string) error { return &Error{MalformedPacket, detail} }

func protocol(detail string) error { return &Error{ProtocolError, detail} }

var errTruncated = &Error{MalformedPacket, "packet ends inside a field"}
