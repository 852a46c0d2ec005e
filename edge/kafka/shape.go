package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The codec believes the counts that a request states. Of tagged fields it goes through four billion in a request of forty bytes,
// which takes a CPU for half a minute, before anyone has authenticated; for an array it takes memory for as many elements as there are
// bytes left, which of 100 MiB are gigabytes. So the body of every request is first walked along its shape, which costs a tenth of
// decoding it, and what states more than it holds is refused, as is what holds more elements than any client has use for: decoded
// and answered, each of a few bytes takes hundreds.
//
// A shape has one letter a field: 1 2 4 8 an integer of that many bytes, u a UUID, s a string and b bytes, null or not, (x) an array of
// plain values, […] an array of structures. Flexible versions write lengths as varints, and their structures, and the request, end in
// tagged fields, which are not written down.

// maxItems bounds the elements of all arrays of a request.
const maxItems = 1 << 17

// shape is the shape of a request from a version on.
type shape struct {
	from   int16
	fields string
}

// requestShapes has every version up to the newest that is served, and, one by one, newer ones that can only be refused partition by
// partition.
func requestShapes() map[kmsg.Key][]shape {
	return map[kmsg.Key][]shape{
		kmsg.Produce:                      {{0, "24[s[4b]]"}, {3, "s24[s[4b]]"}, {12, "s24[s[4b]]"}, {13, "s24[u[4b]]"}},
		kmsg.Fetch:                        {{0, "444[s[484]]"}, {3, "4444[s[484]]"}, {4, "44441[s[484]]"}, {5, "44441[s[4884]]"}, {7, "4444144[s[4884]][s(4)]"}, {9, "4444144[s[44884]][s(4)]"}, {11, "4444144[s[44884]][s(4)]s"}, {12, "4444144[s[448484]][s(4)]s"}},
		kmsg.ListOffsets:                  {{0, "4[s[484]]"}, {1, "4[s[48]]"}, {2, "41[s[48]]"}, {4, "41[s[448]]"}, {9, "41[s[448]]"}, {10, "41[s[448]]4"}},
		kmsg.Metadata:                     {{0, "[s]"}, {4, "[s]1"}, {8, "[s]111"}, {10, "[us]111"}, {11, "[us]11"}},
		kmsg.OffsetCommit:                 {{0, "s[s[48s]]"}, {1, "s4s[s[488s]]"}, {2, "s4s8[s[48s]]"}, {5, "s4s[s[48s]]"}, {6, "s4s[s[484s]]"}, {7, "s4ss[s[484s]]"}},
		kmsg.OffsetFetch:                  {{0, "s[s(4)]"}, {7, "s[s(4)]1"}, {8, "[s[s(4)]]1"}, {9, "[ss4[s(4)]]1"}},
		kmsg.FindCoordinator:              {{0, "s"}, {1, "s1"}, {4, "1(s)"}},
		kmsg.JoinGroup:                    {{0, "s4ss[sb]"}, {1, "s44ss[sb]"}, {5, "s44sss[sb]"}, {8, "s44sss[sb]s"}},
		kmsg.Heartbeat:                    {{0, "s4s"}, {3, "s4ss"}},
		kmsg.LeaveGroup:                   {{0, "ss"}, {3, "s[ss]"}, {5, "s[sss]"}},
		kmsg.SyncGroup:                    {{0, "s4s[sb]"}, {3, "s4ss[sb]"}, {5, "s4ssss[sb]"}},
		kmsg.DescribeGroups:               {{0, "(s)"}, {3, "(s)1"}},
		kmsg.ListGroups:                   {{0, ""}, {4, "(s)"}, {5, "(s)(s)"}},
		kmsg.SASLHandshake:                {{0, "s"}},
		kmsg.ApiVersions:                  {{0, ""}, {3, "ss"}},
		kmsg.CreateTopics:                 {{0, "[s42[4(4)][ss]]4"}, {1, "[s42[4(4)][ss]]41"}},
		kmsg.DeleteTopics:                 {{0, "(s)4"}, {6, "[su]4"}},
		kmsg.DeleteRecords:                {{0, "[s[48]]4"}},
		kmsg.InitProducerID:               {{0, "s4"}, {3, "s482"}},
		kmsg.OffsetForLeaderEpoch:         {{0, "[s[44]]"}, {2, "[s[444]]"}, {3, "4[s[444]]"}},
		kmsg.AddPartitionsToTxn:           {{0, "s82[s(4)]"}},
		kmsg.AddOffsetsToTxn:              {{0, "s82s"}},
		kmsg.EndTxn:                       {{0, "s821"}},
		kmsg.TxnOffsetCommit:              {{0, "ss82[s[48s]]"}, {2, "ss82[s[484s]]"}, {3, "ss824ss[s[484s]]"}},
		kmsg.DescribeACLs:                 {{0, "1sss11"}, {1, "1s1ss11"}},
		kmsg.CreateACLs:                   {{0, "[1sss11]"}, {1, "[1s1ss11]"}},
		kmsg.DeleteACLs:                   {{0, "[1sss11]"}, {1, "[1s1ss11]"}},
		kmsg.DescribeConfigs:              {{0, "[1s(s)]"}, {1, "[1s(s)]1"}, {3, "[1s(s)]11"}},
		kmsg.AlterConfigs:                 {{0, "[1s[ss]]1"}},
		kmsg.DescribeLogDirs:              {{0, "[s(4)]"}},
		kmsg.SASLAuthenticate:             {{0, "b"}},
		kmsg.CreatePartitions:             {{0, "[s4[(4)]]41"}},
		kmsg.DeleteGroups:                 {{0, "(s)"}},
		kmsg.IncrementalAlterConfigs:      {{0, "[1s[s1s]]1"}},
		kmsg.OffsetDelete:                 {{0, "s[s[4]]"}},
		kmsg.DescribeClientQuotas:         {{0, "[s1s]1"}},
		kmsg.DescribeUserSCRAMCredentials: {{0, "[s]"}},
		kmsg.AlterUserSCRAMCredentials:    {{0, "[s1][s14bb]"}},
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

var (
	errShape = errors.New("request states more than it holds")
	errItems = errors.New("request has too many elements")
)

// walker goes along a request.
type walker struct {
	kbin.Reader
	flexible bool
	items    int // that there may still be
}

// walk goes along a structure's fields, and its tagged fields. It stops at the end of fields or at the bracket that closes them, and
// returns what is behind.
func (w *walker) walk(fields string) (rest string) {
	for fields != "" && fields[0] != ']' {
		f := fields[0]
		fields = fields[1:]
		switch f {
		case '[', '(':
			behind := closing(fields)
			for n := w.count(); n > 0 && w.Ok(); n-- {
				if f == '[' {
					w.walk(fields)
				} else {
					w.field(fields[0])
				}
			}
			fields = behind
		default:
			w.field(f)
		}
	}
	if w.flexible {
		walkTags(&w.Reader)
	}
	return fields
}

// count reads how many elements an array has.
func (w *walker) count() int64 {
	var n int64
	if w.flexible {
		n = int64(w.Uvarint()) - 1
	} else {
		n = int64(w.Int32())
	}
	switch {
	case n <= 0:
		return 0
	case n > int64(len(w.Src)):
		w.fail()
		return 0
	}
	if w.items -= int(n); w.items < 0 {
		w.fail()
	}
	return n
}

// fail marks what is walked as damaged.
func (w *walker) fail() {
	w.Src = w.Src[:0]
	w.Span(1)
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

func (w *walker) field(f byte) {
	var n int64
	switch {
	case f == 'u':
		n = 16
	case f != 's' && f != 'b':
		n = int64(f - '0')
	case w.flexible:
		n = int64(w.Uvarint()) - 1
	case f == 's':
		n = int64(w.Int16())
	default:
		n = int64(w.Int32())
	}
	if n > int64(len(w.Src)) {
		w.fail()
	} else if n > 0 {
		w.Span(int(n))
	}
}

func walkTags(r *kbin.Reader) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

// checkShape refuses a request that the codec must not see.
func checkShape(body []byte, fields string, flexible bool) error {
	w := walker{Reader: kbin.Reader{Src: body}, flexible: flexible, items: maxItems}
	w.walk(fields)
	switch {
	case w.items < 0:
		return errItems
	case !w.Ok():
		return errShape
	}
	return nil
}
