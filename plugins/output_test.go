package plugins

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestOutputKeepsWhatItHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var o Output
	for range 200 {
		o.Reset()
		var want [][]byte
		hold := func(n int) {
			for range n {
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(30_000))
				want = append(want, p)
				o.Results = append(o.Results, Result{Payload: o.hold(p)})
			}
		}
		hold(rng.IntN(20))
		m, kept := o.mark(), len(want)
		hold(rng.IntN(20))
		o.rollback(m)
		want = want[:kept]
		hold(rng.IntN(20))
		if len(o.Results) != len(want) {
			t.Fatalf("%d results, want %d", len(o.Results), len(want))
		}
		for i := range want {
			if !bytes.Equal(o.Results[i].Payload, want[i]) {
				t.Fatalf("payload %d was overwritten", i)
			}
		}
	}
}

func TestOutputLetsGoOfLargeBlocks(t *testing.T) {
	var o Output
	for range 5 {
		o.hold(make([]byte, keepBytes/2))
	}
	o.Reset()
	total := 0
	for _, b := range o.blocks {
		total += cap(b)
	}
	if total > keepBytes {
		t.Errorf("it holds on to %d bytes", total)
	}
}
