package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"rivulet/edge"
)

// TestStableOffsetIsNeverBeforeTheStart: records are deleted of which some belong to a transaction that is open. Who reads what is
// committed from the latest offset must be told one that there is.
func TestStableOffsetIsNeverBeforeTheStart(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "tx", Partitions: 1})
	cl := txnClient(b, "writer")
	beginTxn(t, cl)
	produceAll(t, cl, "tx", "in the transaction")
	produceAll(t, b.client(), "tx", "behind it")
	r := dial(b)
	defer r.close()
	if p := ask[*kmsg.DeleteRecordsResponse](r, deleteRequest("tx", 0, -1), 2).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.LowWatermark != 2 {
		t.Fatalf("%+v", p)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 1
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "tx", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}
	latest := ask[*kmsg.ListOffsetsResponse](r, req, 6).Topics[0].Partitions[0].Offset
	if latest != 2 {
		t.Errorf("the latest committed offset is %d, the log starts at 2", latest)
	}
	f := fetchRequest("tx", 0, latest)
	f.IsolationLevel, f.MaxWaitMillis = 1, 0
	if p := r.fetch(f); p.ErrorCode != 0 || p.LastStableOffset < p.LogStartOffset {
		t.Errorf("a Fetch from there: code %d, last stable offset %d, log start %d", p.ErrorCode, p.LastStableOffset, p.LogStartOffset)
	}
	endTxn(t, cl, kgo.TryCommit)
	produceAll(t, b.client(), "tx", "later")
	if p := r.fetch(f); p.ErrorCode != 0 || p.LastStableOffset != 4 {
		t.Errorf("after its end: code %d, last stable offset %d", p.ErrorCode, p.LastStableOffset)
	}
}

// TestLongNamesDoNotBreakTheAnswer: what an answer says of a request, or makes of it, fits into the answer's strings, which end at
// 32767 bytes in versions that are not flexible.
func TestLongNamesDoNotBreakTheAnswer(t *testing.T) {
	b, _ := administrator(t)
	open := startBroker(t, Options{})
	long := strings.Repeat("ä", 16000)

	r := dial(open)
	defer r.close()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "g", 20000, 20000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	join.Version = 5
	body := append([]byte{0, 11, 0, 5, 0, 0, 0, 1, 0x7f, 0xfe}, strings.Repeat("ä", 0x7ffe/2)...)
	r.sendBytes(join.AppendTo(body))
	resp := join.ResponseKind().(*kmsg.JoinGroupResponse)
	r.decode(resp, 1)
	if resp.ErrorCode != kerr.MemberIDRequired.Code || !strings.HasPrefix(resp.MemberID, "ää") || len(resp.MemberID) > 1000 || strings.ContainsRune(resp.MemberID, '\uFFFD') {
		t.Errorf("code %d, a member id of %d bytes", resp.ErrorCode, len(resp.MemberID))
	}

	secure := dial(b)
	defer secure.close()
	if code, resp := secure.authenticate(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), 1); code != 0 || resp.ErrorCode != 0 {
		t.Fatal(code, resp)
	}
	acl := kmsg.NewPtrCreateACLsRequest()
	acl.Creations = []kmsg.CreateACLsRequestCreation{{
		ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "t", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral,
		Principal: strings.Repeat("\x01", 16000), Host: "*", Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow,
	}, {
		ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "t", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral,
		Principal: long, Host: "*", Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow,
	}}
	for _, res := range ask[*kmsg.CreateACLsResponse](secure, acl, 1).Results {
		if res.ErrorCode != kerr.InvalidRequest.Code || res.ErrorMessage == nil || len(*res.ErrorMessage) > 2000 {
			t.Errorf("code %d", res.ErrorCode)
		}
	}
}

// TestACLHostIsNotGuessed: an ACL without a host is none for every host.
func TestACLHostIsNotGuessed(t *testing.T) {
	b, adm := administrator(t)
	made, err := adm.CreateACLs(withTimeout(t), kadm.NewACLs().Topics("t").ResourcePatternType(kadm.ACLPatternLiteral).
		Allow("User:bob").AllowHosts("").Operations(kadm.OpRead))
	if err != nil || len(made) != 1 {
		t.Fatal(len(made), err)
	}
	if made[0].Err == nil || len(b.stored()) > 0 {
		t.Errorf("%v; stored: %v", made[0].Err, b.stored())
	}
}
