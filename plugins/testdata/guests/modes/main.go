//go:build wasip1

// Modes does with each record what its value says: the first word is what, the rest its argument.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/redpanda/src/transform-sdk/go/transform"
)

var (
	keep [][]byte
	seen int
)

func main() {
	if os.Getenv("FAIL") != "" {
		panic("told to fail by " + os.Getenv("FAIL"))
	}
	fmt.Fprintln(os.Stderr, "ready for", os.Getenv("REDPANDA_INPUT_TOPIC"), os.Getenv("REDPANDA_OUTPUT_TOPIC_1"))
	transform.OnRecordWritten(do)
}

func recurse(n int) int {
	if n == 0 {
		return 0
	}
	return recurse(n-1) + 1
}

func depth(arg string) int {
	n, err := strconv.Atoi(arg)
	if err != nil {
		panic(err)
	}
	return n
}

func do(e transform.WriteEvent, w transform.RecordWriter) error {
	r := e.Record()
	seen++
	what, arg, _ := strings.Cut(string(r.Value), " ")
	switch what {
	case "drop":
		return nil
	case "twice":
		if err := w.Write(r); err != nil {
			return err
		}
	case "to":
		return w.Write(r, transform.ToTopic(arg))
	case "upper":
		r.Value = []byte(strings.ToUpper(arg))
		r.Headers = append(r.Headers, transform.RecordHeader{Key: []byte("by"), Value: []byte("modes")})
	case "clock":
		r.Value = []byte(time.Now().UTC().Format(time.RFC3339Nano) + " " + r.Timestamp.UTC().Format(time.RFC3339Nano))
	case "count":
		r.Value = fmt.Append(nil, seen)
	case "sleep":
		time.Sleep(time.Hour)
	case "say":
		fmt.Println(arg)
	case "panic":
		panic(arg)
	case "error":
		return fmt.Errorf("no: %s", arg)
	case "exit":
		os.Exit(3)
	case "loop":
		for {
			seen++
		}
	case "alloc":
		for {
			keep = append(keep, make([]byte, 1<<20))
		}
	case "recurse":
		recurse(depth(arg))
	}
	return w.Write(r)
}
