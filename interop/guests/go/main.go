// Command go is a guest: it keeps the records whose value ends in an even byte, with Redpanda's SDK as it is published.
package main

import "github.com/redpanda-data/redpanda/src/transform-sdk/go/transform"

func main() {
	transform.OnRecordWritten(func(e transform.WriteEvent, w transform.RecordWriter) error {
		if v := e.Record().Value; len(v) > 0 && v[len(v)-1]%2 == 0 {
			return w.Write(e.Record())
		}
		return nil
	})
}
