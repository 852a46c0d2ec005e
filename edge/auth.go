package edge

import "time"

// Op is what a principal wants to do. Each is on one kind of resource; edge/auth says how rules speak of them.
type Op uint8

// The operations.
const (
	OpPublish         Op = iota // resource: MQTT topic
	OpSubscribe                 // resource: MQTT filter, with or without $share/NAME/
	OpRead                      // resource: log topic
	OpWrite                     // log topic
	OpCreate                    // log topic
	OpDelete                    // log topic, or records of it
	OpAlter                     // log topic: number of partitions, attached plugins
	OpDescribe                  // log topic
	OpGroup                     // resource: consumer group: join, commit and fetch offsets
	OpTxn                       // resource: transactional id: begin, add, end
	OpAdmin                     // resource: "": users, rules, sessions, reload, and what has no operation of its own; Kafka's Alter of the cluster
	OpDescribeConfigs           // log topic
	OpAlterConfigs              // log topic
	OpGroupDescribe             // consumer group
	OpGroupDelete               // consumer group, or offsets of it
	OpTxnDescribe               // transactional id
	OpClusterDescribe           // resource: "": addresses, figures, metrics, log dirs; Kafka's list of groups, ACLs, SCRAM users
	OpClusterDescribeConfigs
	OpClusterAlterConfigs
	OpIdempotentWrite // "": a producer id without a transaction; who may write anything may do this, too
	OpPluginDescribe  // resource: plugin
	OpPluginPush      // plugin: push, roll back, delete
	OpPluginAttach    // plugin: attach, detach, test; besides OpAlter or OpRead on the topic
	OpSyncDescribe    // resource: uplink, downlink or bridge
	OpSyncControl     // uplink: pause, resume

	OpCount // how many there are
)

// Principal is who asks. It is made by a login (edge/auth) and never changed then; copies share the Session.
type Principal struct {
	Name   string   // user; "" is anonymous
	Groups []string // of users, by which rules may speak of them as @name
	Client string   // MQTT client id, Kafka client id
	Addr   string   // host:port; "" or @ for a unix socket
	Method string   // of the login: anonymous, password, SCRAM-SHA-256, certificate, token, socket
	// Super may do everything: the data directory's owner, by the admin socket.
	Super bool
	// Expires is when the login ends, by its token; zero: it does not. The front end closes the connection then.
	Expires time.Time
	// Session is the authorizer's: what it keeps of this login, and remembers of what it decided for it. Nil: it remembers nothing.
	Session any
}

// Authorizer decides. It is called on hot paths: no blocking, and no allocation when it is asked the same again.
type Authorizer interface {
	Allow(p *Principal, op Op, resource string) bool
}

// Allow asks the authorizer; without one everything is allowed. Front ends may remember the answer while Epoch stays the same.
func (b *Broker) Allow(p *Principal, op Op, resource string) bool {
	return b.o.Authorize == nil || b.o.Authorize.Allow(p, op, resource)
}

// PermissionsChanged makes Epoch grow, so that front ends forget what they remembered of Allow. Whoever changes the rules calls it.
func (b *Broker) PermissionsChanged() { b.changes.Add(1) }
