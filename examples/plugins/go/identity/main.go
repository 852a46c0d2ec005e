//go:build wasip1

// Identity passes every record on: the smallest transform with Redpanda's SDK.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o identity.wasm ./examples/plugins/go/identity
//	rivulet plugin push identity identity.wasm
package main

import "github.com/redpanda-data/redpanda/src/transform-sdk/go/transform"

func main() {
	transform.OnRecordWritten(func(e transform.WriteEvent, w transform.RecordWriter) error {
		return w.Write(e.Record())
	})
}
