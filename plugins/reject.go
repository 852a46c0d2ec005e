package plugins

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

// rejected is a guest's own verdict on a record.
type rejected struct{ reason string }

func (r *rejected) Error() string { return fmt.Sprintf("rejected by the plugin: %s", r.reason) }

const maxReason = 512

// reject (reason, length, policy) gives up the current record: policy 0 dead-letters it, 1 drops it, 2 tells the producer.
// What was emitted for it is taken back, and what is emitted later is refused.
func reject(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	reason := in.bytes(stack[0], stack[1])
	r := in.run
	if !r.writable() {
		code(stack, codeNoTransform)
		return
	}
	var policy OnError
	switch uint32(stack[2]) {
	case 0:
		policy = DeadLetter
	case 1:
		policy = Drop
	case 2:
		policy = Reject
	default:
		code(stack, codeInvalidBuffer)
		return
	}
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	r.reject(policy, &rejected{string(printable(reason))})
	code(stack, 0)
}
