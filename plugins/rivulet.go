package plugins

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// rivuletFuncs is our own module rivulet_v1: what Redpanda's ABI lacks. At the ingest stage state, timers and reference
// tables are not granted.
func rivuletFuncs() []hostFunc {
	const (
		i32 = api.ValueTypeI32
		i64 = api.ValueTypeI64
		f64 = api.ValueTypeF64
	)
	one := i32s(1)
	return []hostFunc{
		{"check_abi_version_1", marker, nil, nil},
		{"state_get", notGranted, i32s(4), one},
		{"state_put", notGranted, []api.ValueType{i32, i32, i32, i32, i64}, one},
		{"state_delete", notGranted, i32s(2), one},
		{"state_next", notGranted, i32s(6), one},
		{"timer_set", notGranted, []api.ValueType{i32, i32, i64}, one},
		{"timer_cancel", notGranted, i32s(2), one},
		{"lookup", notGranted, i32s(6), one},
		{"reject", reject, i32s(3), one},
		{"metric_add", metricAdd, []api.ValueType{i32, i32, i64}, one},
		{"metric_set", metricSet, []api.ValueType{i32, i32, f64}, one},
		{"json_get", jsonGet, i32s(4), one},
		{"now_ms", nowMS, nil, []api.ValueType{i64}},
	}
}

func notGranted(_ context.Context, _ api.Module, stack []uint64) { code(stack, codeNotGranted) }

// nowMS is event time: the timestamp of the current record.
func nowMS(ctx context.Context, _ api.Module, stack []uint64) {
	stack[0] = uint64(instanceOf(ctx).millis)
}
