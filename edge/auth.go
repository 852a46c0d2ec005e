package edge

// Op is what a principal wants to do.
type Op uint8

// The operations.
const (
	OpPublish   Op = iota // resource: MQTT topic
	OpSubscribe           // resource: MQTT filter
	OpRead                // resource: log topic
	OpWrite
	OpCreate
	OpDelete
	OpAlter
	OpDescribe
	OpGroup // resource: consumer group
	OpTxn   // resource: transactional id
	OpAdmin
)

// Principal is who asks.
type Principal struct {
	Name   string // user; "" is anonymous
	Client string // MQTT client id, Kafka client id
	Addr   string
}

// Authorizer decides. It is called on hot paths: no blocking, no allocation.
type Authorizer interface {
	Allow(p *Principal, op Op, resource string) bool
}

// Allow asks the authorizer; without one everything is allowed.
func (b *Broker) Allow(p *Principal, op Op, resource string) bool {
	return b.o.Authorize == nil || b.o.Authorize.Allow(p, op, resource)
}
