package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The codec believes the number of tagged fields that a request states: it goes through four billion of them in a
// request of forty bytes, which takes a CPU for half a minute, before anyone has authenticated. So the body of every
// flexible version is first walked along its shape, which costs a tenth of decoding it, and what states more than it
// holds is refused.
//
// A shape has one letter a field: 1 2 4 8 an integer of that many bytes, u a UUID, s a compact string or bytes, null
// or not, (x) a compact array of plain values, […] a compact array of structures. Structures, and the request, end in
// tagged fields, which are not written down.

// shape is the shape of a request from a version on.
type shape struct {
	from   int16
	fields string
}

// requestShapes has every flexible version that is served, and, one by one, newer ones that can only be refused partition
// by partition.
func requestShapes() map[kmsg.Key][]shape {
	return map[kmsg.Key][]shape{
		kmsg.Produce:                      {{9, "s24[s[4s]]"}, {12, "s24[s[4s]]"}, {13, "s24[u[4s]]"}},
		kmsg.Fetch:                        {{12, "4444144[s[448484]][s(4)]s"}},
		kmsg.ListOffsets:                  {{6, "41[s[448]]"}, {9, "41[s[448]]"}, {10, "41[s[448]]4"}},
		kmsg.Metadata:                     {{9, "[s]111"}, {10, "[us]111"}, {11, "[us]11"}},
		kmsg.OffsetCommit:                 {{8, "s4ss[s[484s]]"}},
		kmsg.OffsetFetch:                  {{6, "s[s(4)]"}, {7, "s[s(4)]1"}, {8, "[s[s(4)]]1"}, {9, "[ss4[s(4)]]1"}},
		kmsg.FindCoordinator:              {{3, "s1"}, {4, "1(s)"}},
		kmsg.JoinGroup:                    {{6, "s44sss[ss]"}, {8, "s44sss[ss]s"}},
		kmsg.Heartbeat:                    {{4, "s4ss"}},
		kmsg.LeaveGroup:                   {{4, "s[ss]"}, {5, "s[sss]"}},
		kmsg.SyncGroup:                    {{4, "s4ss[ss]"}, {5, "s4ssss[ss]"}},
		kmsg.DescribeGroups:               {{5, "(s)1"}},
		kmsg.ListGroups:                   {{3, ""}, {4, "(s)"}, {5, "(s)(s)"}},
		kmsg.ApiVersions:                  {{3, "ss"}},
		kmsg.CreateTopics:                 {{5, "[s42[4(4)][ss]]41"}},
		kmsg.DeleteTopics:                 {{4, "(s)4"}, {6, "[su]4"}},
		kmsg.DeleteRecords:                {{2, "[s[48]]4"}},
		kmsg.InitProducerID:               {{2, "s4"}, {3, "s482"}},
		kmsg.OffsetForLeaderEpoch:         {{4, "4[s[444]]"}},
		kmsg.AddPartitionsToTxn:           {{3, "s82[s(4)]"}},
		kmsg.AddOffsetsToTxn:              {{3, "s82s"}},
		kmsg.EndTxn:                       {{3, "s821"}},
		kmsg.TxnOffsetCommit:              {{3, "ss824ss[s[484s]]"}},
		kmsg.DescribeACLs:                 {{2, "1s1ss11"}},
		kmsg.CreateACLs:                   {{2, "[1s1ss11]"}},
		kmsg.DeleteACLs:                   {{2, "[1s1ss11]"}},
		kmsg.DescribeConfigs:              {{4, "[1s(s)]11"}},
		kmsg.AlterConfigs:                 {{2, "[1s[ss]]1"}},
		kmsg.DescribeLogDirs:              {{2, "[s(4)]"}},
		kmsg.SASLAuthenticate:             {{2, "s"}},
		kmsg.CreatePartitions:             {{2, "[s4[(4)]]41"}},
		kmsg.DeleteGroups:                 {{2, "(s)"}},
		kmsg.IncrementalAlterConfigs:      {{1, "[1s[s1s]]1"}},
		kmsg.DescribeClientQuotas:         {{1, "[s1s]1"}},
		kmsg.DescribeUserSCRAMCredentials: {{0, "[s]"}},
		kmsg.AlterUserSCRAMCredentials:    {{0, "[s1][s14ss]"}},
		kmsg.DescribeCluster:              {{0, "1"}, {1, "11"}},
		kmsg.DescribeTransactions:         {{0, "(s)"}},
		kmsg.ListTransactions:             {{0, "(s)(8)"}, {1, "(s)(8)8"}},
	}
}

// shapeOf finds the shape of a version; what is newer than the served ones must be listed itself.
func (a *api) shapeOf(version int16) (fields string, ok bool) {
	for _, s := range a.shapes {
		if version == s.from || version > s.from && version <= a.max {
			fields, ok = s.fields, true
		}
	}
	return fields, ok
}

var errShape = errors.New("request states more than it holds")

// walkShape goes along a structure's fields, and its tagged fields. It stops at the end of fields or at the bracket that
// closes them, and returns what is behind.
func walkShape(r *kbin.Reader, fields string) (rest string) {
	for fields != "" && fields[0] != ']' {
		f := fields[0]
		fields = fields[1:]
		switch f {
		case '[', '(':
			n := r.Uvarint()
			if int64(n)-1 > int64(len(r.Src)) {
				r.Src = r.Src[:0]
				r.Span(1) // marks it as damaged
				n = 0
			}
			behind := closing(fields)
			for ; n > 1 && r.Ok(); n-- {
				if f == '[' {
					walkShape(r, fields)
				} else {
					walkField(r, fields[0])
				}
			}
			fields = behind
		default:
			walkField(r, f)
		}
	}
	walkTags(r)
	return fields
}

// closing returns what is behind the bracket that closes the array which fields is inside of.
func closing(fields string) string {
	depth := 1
	for i := range len(fields) {
		switch fields[i] {
		case '[', '(':
			depth++
		case ']', ')':
			if depth--; depth == 0 {
				return fields[i+1:]
			}
		}
	}
	panic("BUG: a shape's brackets do not match")
}

func walkField(r *kbin.Reader, f byte) {
	switch f {
	case 's':
		if n := r.Uvarint(); n > 1 {
			r.Span(int(n - 1))
		}
	case 'u':
		r.Span(16)
	default:
		r.Span(int(f - '0'))
	}
}

func walkTags(r *kbin.Reader) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

// checkShape refuses a flexible request that the codec must not see.
func checkShape(body []byte, fields string) error {
	r := kbin.Reader{Src: body}
	walkShape(&r, fields)
	if !r.Ok() {
		return errShape
	}
	return nil
}
