//go:build wasip1

// Drop-cold keeps the readings that are worth storing: those of at least MIN degrees.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o drop-cold.wasm ./examples/plugins/go/drop-cold
//	rivulet plugin push drop-cold drop-cold.wasm
//	rivulet plugin attach drop-cold --topic mqtt --set MIN=20
//
// A record whose value has no number "temp" makes it return an error, which ends this instance of the plugin; the broker
// does with that record what on_error says (by default it goes to the topic's dead letters) and carries on.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/redpanda-data/redpanda/src/transform-sdk/go/transform"
)

func main() {
	min := 20.0
	if s := os.Getenv("MIN"); s != "" {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic("MIN is no number: " + s) // seen by whoever attaches the plugin
		}
		min = v
	}
	transform.OnRecordWritten(func(e transform.WriteEvent, w transform.RecordWriter) error {
		temp, err := number(e.Record().Value, `"temp"`)
		if err != nil || temp < min {
			return err
		}
		return w.Write(e.Record())
	})
}

// number finds a field by hand: encoding/json takes 40 times as long in WebAssembly.
func number(json []byte, field string) (float64, error) {
	_, after, ok := bytes.Cut(json, []byte(field))
	if !ok {
		return 0, fmt.Errorf("no %s in the record", field)
	}
	after = bytes.TrimLeft(after, ": ")
	if end := bytes.IndexAny(after, ",} "); end >= 0 {
		after = after[:end]
	}
	return strconv.ParseFloat(string(after), 64)
}
