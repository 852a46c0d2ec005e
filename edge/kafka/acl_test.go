package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rivulet/edge"
	"rivulet/edge/auth"
)

func administrator(t *testing.T) (*broker, *kadm.Client) {
	b := startSecure(t, auth.Config{}, []string{"allow all user ann"}, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	return b, kadm.NewClient(b.client(kgo.SASL(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism())))
}

// stored are the rules of the store, as `rivulet acl list` writes them.
func (b *broker) stored() (list []string) {
	for _, r := range b.auth.Rules() {
		if r.Source == auth.SourceStore {
			list = append(list, r.String())
		}
	}
	slices.Sort(list)
	return list
}

// What Kafka's tools make are rules like any other, and the other way round.
func TestACLsAreRules(t *testing.T) {
	b, adm := administrator(t)
	ctx := withTimeout(t)
	made, err := adm.CreateACLs(ctx, kadm.NewACLs().Topics("t", "*").ResourcePatternType(kadm.ACLPatternLiteral).
		Allow("User:bob", "User:*").AllowHosts("*", "192.0.2.1").Operations(kadm.OpRead, kadm.OpDescribe))
	if err != nil || len(made) != 16 {
		t.Fatal(len(made), err)
	}
	for _, c := range made {
		if c.Err != nil {
			t.Errorf("%+v", c)
		}
	}
	for _, build := range []*kadm.ACLBuilder{
		kadm.NewACLs().Groups("g-").ResourcePatternType(kadm.ACLPatternPrefixed).Deny("User:eve").DenyHosts("*").Operations(kadm.OpAll),
		kadm.NewACLs().TransactionalIDs("x").ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:ANONYMOUS").AllowHosts("*").Operations(kadm.OpWrite),
		kadm.NewACLs().Clusters().ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:bob").AllowHosts("*").Operations(kadm.OpClusterAction, kadm.OpIdempotentWrite),
	} {
		made, err := adm.CreateACLs(ctx, build)
		for _, c := range made {
			err = errors.Join(err, c.Err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"allow cluster_action user bob cluster", "allow describe host 192.0.2.1 topic *", "allow describe host 192.0.2.1 topic t",
		"allow describe topic *", "allow describe topic t", "allow describe user bob host 192.0.2.1 topic *",
		"allow describe user bob host 192.0.2.1 topic t", "allow describe user bob topic *", "allow describe user bob topic t",
		"allow idempotent_write user bob cluster", "allow read host 192.0.2.1 topic *", "allow read host 192.0.2.1 topic t",
		"allow read topic *", "allow read topic t", "allow read user bob host 192.0.2.1 topic *", "allow read user bob host 192.0.2.1 topic t",
		"allow read user bob topic *", "allow read user bob topic t", "allow write user anonymous txn x", "deny all user eve group g-*",
	}
	if diff := cmp.Diff(want, b.stored()); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	// The same again changes nothing.
	if _, err := adm.CreateACLs(ctx, kadm.NewACLs().Groups("g-").ResourcePatternType(kadm.ACLPatternPrefixed).Deny("User:eve").DenyHosts("*").Operations(kadm.OpAll)); err != nil || len(b.stored()) != len(want) {
		t.Errorf("%d rules, %v", len(b.stored()), err)
	}
}

// describe lists what a filter finds, one line each.
func describe(t *testing.T, adm *kadm.Client, build *kadm.ACLBuilder) (list []string) {
	t.Helper()
	found, err := adm.DescribeACLs(withTimeout(t), build)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		for _, a := range f.Described {
			list = append(list, strings.Join([]string{a.Permission.String(), a.Operation.String(), a.Principal, a.Host, a.Type.String(), a.Pattern.String(), a.Name}, " "))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func everything() *kadm.ACLBuilder {
	return kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).Allow().Deny().AllowHosts().DenyHosts()
}

func TestDescribeACLs(t *testing.T) {
	b, adm := administrator(t)
	for _, text := range []string{
		"allow read,write user bob topic orders", "allow read topic *", "deny write user eve topic or*", "allow publish user bob mqtt #",
		"allow describe user @ops group g", "allow write user dev-* host 10.0.0.0/8 txn x",
	} {
		b.rule(text)
	}
	all := []string{
		"ALLOW ALL User:ann * CLUSTER LITERAL kafka-cluster", "ALLOW ALL User:ann * GROUP LITERAL *", "ALLOW ALL User:ann * TOPIC LITERAL *",
		"ALLOW ALL User:ann * TRANSACTIONAL_ID LITERAL *",
		"ALLOW DESCRIBE Group:ops * GROUP LITERAL g", "ALLOW READ User:* * TOPIC LITERAL *", "ALLOW READ User:bob * TOPIC LITERAL orders",
		"ALLOW WRITE User:bob * TOPIC LITERAL orders", "ALLOW WRITE User:dev-* 10.0.0.0/8 TRANSACTIONAL_ID LITERAL x", "DENY WRITE User:eve * TOPIC PREFIXED or",
	}
	for name, c := range map[string]struct {
		filter *kadm.ACLBuilder
		want   []string
	}{
		"everything": {everything(), all},
		"what holds for a topic": {
			kadm.NewACLs().Topics("orders").ResourcePatternType(kadm.ACLPatternMatch).Operations(kadm.OpAny).Allow().Deny().AllowHosts().DenyHosts(),
			[]string{all[2], all[5], all[6], all[7], all[9]},
		},
		"written just so": {
			kadm.NewACLs().Topics("orders").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAny).Allow().Deny().AllowHosts().DenyHosts(),
			all[6:8],
		},
		"one operation of one user": {
			kadm.NewACLs().Topics().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpWrite).Allow("User:bob").AllowHosts(),
			all[7:8],
		},
		"denied": {
			kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).Deny().DenyHosts(),
			all[9:],
		},
	} {
		want := slices.Clone(c.want)
		slices.Sort(want)
		if diff := cmp.Diff(want, describe(t, adm, c.filter)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func (b *broker) rule(text string) {
	b.t.Helper()
	r, err := auth.ParseRule(text)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.auth.AddRules(b.t.Context(), r); err != nil {
		b.t.Fatal(err)
	}
}

// One operation of a rule of several goes, the others stay; rules of the file stay.
func TestDeleteACLs(t *testing.T) {
	b, adm := administrator(t)
	b.rule("deny read,write,delete user eve topic t")
	b.rule("allow publish user bob mqtt #")
	remove := func(build *kadm.ACLBuilder) (n int) {
		t.Helper()
		gone, err := adm.DeleteACLs(withTimeout(t), build)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range gone {
			if g.Err != nil {
				t.Fatal(g.Err)
			}
			n += len(g.Deleted)
		}
		return n
	}
	if n := remove(kadm.NewACLs().Topics("t").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:eve").DenyHosts()); n != 1 {
		t.Errorf("%d deleted", n)
	}
	want := []string{"allow publish user bob mqtt #", "deny read,delete user eve topic t"}
	if diff := cmp.Diff(want, b.stored()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	remove(everything())
	if diff := cmp.Diff(want[:1], b.stored()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := adm.ListTopics(withTimeout(t)); err != nil {
		t.Errorf("the file's rule is gone: %v", err)
	}
}

func TestInvalidACLs(t *testing.T) {
	b, _ := administrator(t)
	r := dial(b)
	defer r.close()
	r.authenticate(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), 2)
	good := func() kmsg.CreateACLsRequestCreation {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, "t", kmsg.ACLResourcePatternTypeLiteral
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:bob", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
		return c
	}
	req := kmsg.NewPtrCreateACLsRequest()
	for _, change := range []func(*kmsg.CreateACLsRequestCreation){
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = kmsg.ACLResourceTypeAny },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = kmsg.ACLResourceTypeDelegationToken },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourcePatternType = kmsg.ACLResourcePatternTypeMatch },
		func(c *kmsg.CreateACLsRequestCreation) { c.Operation = kmsg.ACLOperationAny },
		func(c *kmsg.CreateACLsRequestCreation) { c.Operation = kmsg.ACLOperationIdempotentWrite },
		func(c *kmsg.CreateACLsRequestCreation) { c.PermissionType = kmsg.ACLPermissionTypeAny },
		func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "bob" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "User:" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "User:b*" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "Role:bob" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Host = "no address" },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "" },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "{user}" },
		func(c *kmsg.CreateACLsRequestCreation) {
			c.ResourceType, c.ResourceName, c.Operation = kmsg.ACLResourceTypeCluster, "other", kmsg.ACLOperationAlter
		},
	} {
		c := good()
		change(&c)
		req.Creations = append(req.Creations, c)
	}
	req.Creations = append(req.Creations, good())
	resp := ask[*kmsg.CreateACLsResponse](r, req, 3)
	for i, res := range resp.Results[:len(resp.Results)-1] {
		if res.ErrorCode != kerr.InvalidRequest.Code || res.ErrorMessage == nil {
			t.Errorf("%+v: %v", req.Creations[i], kerr.ErrorForCode(res.ErrorCode))
		}
	}
	if res := resp.Results[len(resp.Results)-1]; res.ErrorCode != 0 {
		t.Errorf("the one that is right: %v", kerr.ErrorForCode(res.ErrorCode))
	}
	if got := b.stored(); len(got) != 1 {
		t.Errorf("rules %v", got)
	}
	filter := kmsg.NewPtrDescribeACLsRequest() // all zero
	if got := ask[*kmsg.DescribeACLsResponse](r, filter, 1); got.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("a filter without anything: %+v", got)
	}
}

func TestACLsWhereNothingIsConfigured(t *testing.T) {
	b := startBroker(t, Options{})
	if got := call[*kmsg.DescribeACLsResponse](b, kmsg.NewPtrDescribeACLsRequest(), 1); got.ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", got)
	}
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, kmsg.NewCreateACLsRequestCreation())
	if got := call[*kmsg.CreateACLsResponse](b, req, 1); got.Results[0].ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", got)
	}
}

// A user that Kafka's tool makes can log in by every mechanism, its record serves passwords, too.
func TestSCRAMUsers(t *testing.T) {
	b, adm := administrator(t)
	ctx := withTimeout(t)
	altered, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
		{User: "zoe", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"},
		{User: "zoe", Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "secret"},
	})
	if err != nil || altered["zoe"].Err != nil {
		t.Fatalf("%+v, %v", altered, err)
	}
	for _, m := range []kgo.Opt{
		kgo.SASL(plain.Auth{User: "zoe", Pass: "secret"}.AsMechanism()),
		kgo.SASL(scram.Auth{User: "zoe", Pass: "secret"}.AsSha256Mechanism()),
		kgo.SASL(scram.Auth{User: "zoe", Pass: "secret"}.AsSha512Mechanism()),
	} {
		if err := b.client(m).Ping(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.auth.Password(ctx, "zoe", "secret", auth.Conn{}); err != nil {
		t.Errorf("by password: %v", err)
	}
	described, err := adm.DescribeUserSCRAMs(ctx, "zoe", "weak")
	if err != nil || len(described["zoe"].CredInfos) != 2 || described["zoe"].CredInfos[1].Iterations != 8192 || !errors.Is(described["weak"].Err, kerr.ResourceNotFound) {
		t.Errorf("%+v, %v", described, err)
	}
	if all, err := adm.DescribeUserSCRAMs(ctx); err != nil || len(all) != 4 {
		t.Errorf("all: %+v, %v", all, err)
	}
	altered, err = adm.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "zoe", Mechanism: kadm.ScramSha256}, {User: "bob", Mechanism: kadm.ScramSha256}, {User: "nobody", Mechanism: kadm.ScramSha256}}, nil)
	if err != nil || altered["zoe"].Err != nil || altered["bob"].Err != nil || !errors.Is(altered["nobody"].Err, kerr.ResourceNotFound) {
		t.Fatalf("%+v, %v", altered, err)
	}
	if err := b.client(kgo.SASL(scram.Auth{User: "zoe", Pass: "secret"}.AsSha256Mechanism()), kgo.RequestRetries(0)).Ping(ctx); err == nil {
		t.Error("a credential that was deleted is good")
	}
	r := dial(b)
	defer r.close()
	r.authenticate(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), 2)
	twice := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	for _, mechanism := range []int8{scramSHA256, scramSHA256, 7} {
		d := kmsg.NewAlterUserSCRAMCredentialsRequestDeletion()
		d.Name, d.Mechanism = "eve", mechanism
		if mechanism == 7 {
			d.Name = "bob"
		}
		twice.Deletions = append(twice.Deletions, d)
	}
	weak := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	weak.Name, weak.Mechanism, weak.Iterations, weak.Salt, weak.SaltedPassword = "weak", scramSHA256, 1, []byte("salt"), make([]byte, 32)
	twice.Upsertions = append(twice.Upsertions, weak)
	got := ask[*kmsg.AlterUserSCRAMCredentialsResponse](r, twice, 0).Results
	if len(got) != 3 || got[2].ErrorCode != kerr.UnacceptableCredential.Code || got[0].ErrorCode != kerr.DuplicateResource.Code || got[1].ErrorCode != kerr.UnsupportedSaslMechanism.Code {
		t.Errorf("%+v", got)
	}
	if u, err := b.auth.User("eve"); err != nil || len(u.Credentials) != 2 {
		t.Errorf("%+v, %v", u, err)
	}
}
