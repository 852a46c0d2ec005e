package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge/auth"
)

// binding is one of Kafka's ACLs: one operation of one principal on one resource. A rule of several actions is several of them.
type binding struct {
	resource  kmsg.ACLResourceType
	name      string
	pattern   kmsg.ACLResourcePatternType
	principal string
	host      string
	op        kmsg.ACLOperation
	permit    kmsg.ACLPermissionType
	action    auth.Actions // of the rule that it was made of
}

// aclKinds are Kafka's resource types and the rules' kinds. What else rules speak of, MQTT above all, Kafka's API cannot say.
func aclKinds() map[kmsg.ACLResourceType]auth.Kind {
	return map[kmsg.ACLResourceType]auth.Kind{
		kmsg.ACLResourceTypeTopic: auth.KindTopic, kmsg.ACLResourceTypeGroup: auth.KindGroup,
		kmsg.ACLResourceTypeTransactionalId: auth.KindTxn, kmsg.ACLResourceTypeCluster: auth.KindCluster,
	}
}

// aclActions are Kafka's operations and the rules' actions.
func aclActions() map[kmsg.ACLOperation]auth.Actions {
	return map[kmsg.ACLOperation]auth.Actions{
		kmsg.ACLOperationAll: auth.All, kmsg.ACLOperationRead: auth.Read, kmsg.ACLOperationWrite: auth.Write,
		kmsg.ACLOperationCreate: auth.Create, kmsg.ACLOperationDelete: auth.Delete, kmsg.ACLOperationAlter: auth.Alter,
		kmsg.ACLOperationDescribe: auth.Describe, kmsg.ACLOperationClusterAction: auth.ClusterAction,
		kmsg.ACLOperationDescribeConfigs: auth.DescribeConfigs, kmsg.ACLOperationAlterConfigs: auth.AlterConfigs,
		kmsg.ACLOperationIdempotentWrite: auth.IdempotentWrite,
	}
}

const (
	anyName         = "*"
	userPrincipal   = "User:"
	groupPrincipal  = "Group:" // of users; Kafka leaves other types than User to its authorizers
	anonymousKafka  = "ANONYMOUS"
	clusterResource = auth.ClusterName
)

// bindings are the ACLs that a rule comes to. A rule about everything is one on each type.
func bindings(r auth.Rule) []binding {
	b := binding{name: r.Name, pattern: kmsg.ACLResourcePatternTypeLiteral, host: r.Host, permit: kmsg.ACLPermissionTypeAllow}
	if r.Prefix {
		b.pattern = kmsg.ACLResourcePatternTypePrefixed
	}
	if r.Deny {
		b.permit = kmsg.ACLPermissionTypeDeny
	}
	if b.host == "" {
		b.host = anyName
	}
	switch {
	case r.User == "":
		b.principal = userPrincipal + anyName
	case r.User == auth.AnonymousName:
		b.principal = userPrincipal + anonymousKafka
	case strings.HasPrefix(r.User, "@"):
		b.principal = groupPrincipal + r.User[1:]
	default:
		b.principal = userPrincipal + r.User
	}
	var list []binding
	for t := kmsg.ACLResourceTypeTopic; t <= kmsg.ACLResourceTypeTransactionalId; t++ {
		if r.Kind != auth.KindAny && r.Kind != aclKinds()[t] {
			continue
		}
		b.resource = t
		if r.Kind == auth.KindAny {
			if b.name = anyName; t == kmsg.ACLResourceTypeCluster {
				b.name = clusterResource
			}
		}
		actions := aclActions()
		for op := kmsg.ACLOperationAll; op <= kmsg.ACLOperationIdempotentWrite; op++ {
			if r.Actions&actions[op] != 0 && (r.Kind != auth.KindAny || op == kmsg.ACLOperationAll) {
				b.op, b.action = op, actions[op]
				list = append(list, b)
			}
		}
	}
	return list
}

var errACL = errors.New("invalid ACL")

// rule is what a binding to be made comes to.
func (b *binding) rule() (auth.Rule, error) {
	r := auth.Rule{Name: b.name, Actions: aclActions()[b.op], Kind: aclKinds()[b.resource]}
	bad := func(format string, args ...any) (auth.Rule, error) {
		return r, fmt.Errorf("%w: "+format, append([]any{errACL}, args...)...)
	}
	switch b.permit {
	case kmsg.ACLPermissionTypeAllow:
	case kmsg.ACLPermissionTypeDeny:
		r.Deny = true
	default:
		return bad("permission %d is neither allow nor deny", b.permit)
	}
	switch b.pattern {
	case kmsg.ACLResourcePatternTypeLiteral:
	case kmsg.ACLResourcePatternTypePrefixed:
		r.Prefix = true
	default:
		return bad("pattern type %d is neither literal nor prefixed", b.pattern)
	}
	switch {
	case r.Kind == 0:
		return bad("resource type %d: want topic, group, cluster or transactional id", b.resource)
	case r.Actions == 0:
		return bad("operation %d", b.op)
	case strings.ContainsAny(b.name, "{}"):
		return bad("a resource with { or }; placeholders are for rules made by rivulet acl")
	}
	if b.host == "" {
		return bad("no host; * is any")
	}
	if b.host != anyName {
		r.Host = b.host
	}
	kind, name, _ := strings.Cut(b.principal, ":")
	switch {
	case kind+":" == groupPrincipal && name != "":
		r.User = "@" + name
	case kind+":" != userPrincipal || name == "":
		return bad("principal %q: want User:NAME", b.principal)
	case name == anyName:
	case name == anonymousKafka:
		r.User = auth.AnonymousName
	case strings.Contains(name, "*"):
		return bad("principal %q: Kafka's ACLs name users in full, or all as User:*", b.principal)
	default:
		r.User = name
	}
	return r, r.Check()
}

// aclFilter picks ACLs, as DescribeAcls and DeleteAcls state it; nil matches anything.
type aclFilter struct {
	resource  kmsg.ACLResourceType
	name      *string
	pattern   kmsg.ACLResourcePatternType
	principal *string
	host      *string
	op        kmsg.ACLOperation
	permit    kmsg.ACLPermissionType
}

// check refuses what cannot be meant.
func (f *aclFilter) check() error {
	switch {
	case f.resource < kmsg.ACLResourceTypeAny || f.resource > kmsg.ACLResourceTypeUser:
		return fmt.Errorf("%w filter: resource type %d", errACL, f.resource)
	case f.pattern < kmsg.ACLResourcePatternTypeAny || f.pattern > kmsg.ACLResourcePatternTypePrefixed:
		return fmt.Errorf("%w filter: pattern type %d", errACL, f.pattern)
	case f.op < kmsg.ACLOperationAny || f.op > kmsg.ACLOperationDescribeTokens:
		return fmt.Errorf("%w filter: operation %d", errACL, f.op)
	case f.permit < kmsg.ACLPermissionTypeAny || f.permit > kmsg.ACLPermissionTypeAllow:
		return fmt.Errorf("%w filter: permission %d", errACL, f.permit)
	}
	return nil
}

func (f *aclFilter) matches(b *binding) bool {
	return (f.resource == kmsg.ACLResourceTypeAny || f.resource == b.resource) &&
		f.matchesName(b) &&
		(f.principal == nil || *f.principal == b.principal) &&
		(f.host == nil || *f.host == b.host) &&
		(f.op == kmsg.ACLOperationAny || f.op == b.op) &&
		(f.permit == kmsg.ACLPermissionTypeAny || f.permit == b.permit)
}

// matchesName is KIP-290: MATCH finds all that apply to a name, the others what is written just so.
func (f *aclFilter) matchesName(b *binding) bool {
	literal := b.pattern == kmsg.ACLResourcePatternTypeLiteral
	switch f.pattern {
	case kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLResourcePatternTypePrefixed:
		if f.pattern != b.pattern {
			return false
		}
	case kmsg.ACLResourcePatternTypeMatch:
		switch {
		case f.name == nil:
		case literal:
			return b.name == *f.name || b.name == anyName
		default:
			return strings.HasPrefix(*f.name, b.name)
		}
	}
	return f.name == nil || *f.name == b.name
}
