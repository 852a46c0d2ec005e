// Command report reads the events of `go test -json` from standard input and prints what a person wants: a line for each
// package, everything that a failed test said, and the counts. A skipped test fails: what cannot run here is a hole that nobody would see.
//
//	go test -json ./... | go run ./.ci/report [-passed]
//
// With -passed it names each passed test of the top level and how long it took.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

func main() {
	if !report(os.Stdin, os.Stdout, slices.Contains(os.Args[1:], "-passed")) {
		os.Exit(1)
	}
}

func report(in io.Reader, out io.Writer, passed bool) bool {
	said := map[[2]string]*strings.Builder{}
	of := func(e event) *strings.Builder {
		k := [2]string{e.Package, e.Test}
		if said[k] == nil {
			said[k] = new(strings.Builder)
		}
		return said[k]
	}
	counts := map[string]int{}
	sound := true
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		var e event
		if line != "" && json.Unmarshal([]byte(line), &e) != nil {
			fmt.Fprint(out, line) // what is no event is worth reading
		}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "output":
			if e.Test == "" && strings.HasPrefix(e.Output, "ok ") {
				fmt.Fprint(out, e.Output)
				sound = sound && !strings.Contains(e.Output, "[no tests to run]")
			}
			of(e).WriteString(e.Output)
		case "pass", "fail", "skip":
			switch {
			case e.Test != "":
				counts[e.Action]++
				if e.Action != "pass" {
					sound = false
					fmt.Fprintf(out, "%s", of(e))
				} else if passed && !strings.Contains(e.Test, "/") {
					fmt.Fprintf(out, "pass %7.1f s  %s\n", e.Elapsed, e.Test)
				}
			case e.Action == "fail":
				sound = false
				fmt.Fprintf(out, "%s", of(e))
			}
			delete(said, [2]string{e.Package, e.Test})
		}
		if err != nil {
			break
		}
	}
	// A process that died takes its tests along without a word.
	for k, b := range said {
		if k[1] != "" {
			sound = false
			fmt.Fprintf(out, "did not end: %s %s\n%s", k[0], k[1], b)
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	return sound && counts["pass"] > 0
}
