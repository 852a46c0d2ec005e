package kafka

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"rivulet/edge"
)

// TestFullStoreThrottles: what the store refuses for want of space comes back as an error that clients try again, after a
// pause.
func TestFullStoreThrottles(t *testing.T) {
	b := startBroker(t, Options{})
	for _, test := range []struct {
		err      error
		code     *kerr.Error
		throttle int32
	}{
		{nil, nil, 0},
		{fmt.Errorf("append: %w", edge.ErrFull), kerr.KafkaStorageError, fullThrottle},
		{edge.ErrReadOnly, kerr.KafkaStorageError, fullThrottle},
		{edge.ErrOutOfOrder, kerr.OutOfOrderSequenceNumber, 0},
		{edge.ErrDuplicate, nil, 0},
		{errors.New("anything else"), kerr.UnknownServerError, 0},
	} {
		c := &conn{s: b.server}
		call := &produceCall{conn: c, sl: &slot{ready: make(chan struct{}, 1)}, acks: -1}
		call.left.Store(2)
		c.produces.Add(1)
		p := call.part(0)
		p.in.Err = test.err
		p.in.Done(&p.in)
		call.done()
		<-call.sl.ready
		c.produces.Wait()
		if got := kerr.TypedErrorForCode(p.code); got != test.code || call.throttle != test.throttle {
			t.Errorf("%v: %v, throttle %d; want %v, %d", test.err, got, call.throttle, test.code, test.throttle)
		}
		if test.code != nil && test.code.Code == kerr.KafkaStorageError.Code && !test.code.Retriable {
			t.Errorf("%v is not tried again", test.code)
		}
	}
}
