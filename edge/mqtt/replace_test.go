package mqtt

import "testing"

// A subscription that is replaced is still good for whoever has found it: a deliverer in the middle of a chunk of the log goes on by it
// (MQTT-3.8.4-4). One that is taken back is not.
func TestReplacedSubscriptionServesOn(t *testing.T) {
	var tr tree
	s := &session{}
	first, second := &subscription{sess: s, filter: "site/#"}, &subscription{sess: s, filter: "site/#"}
	tr.add(first, func() uint64 { return 3 })
	tr.add(second, func() uint64 { return first.from.Load() })
	if first.from.Load() != 3 || second.from.Load() != 3 || tr.len() != 1 {
		t.Fatal(first.from.Load(), second.from.Load(), tr.len())
	}
	tr.remove(second)
	if second.from.Load() != ended || tr.len() != 0 {
		t.Fatal(second.from.Load(), tr.len())
	}
}
