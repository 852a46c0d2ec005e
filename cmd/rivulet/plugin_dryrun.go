package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rivulet/edge"
	edgehttp "rivulet/edge/http"
)

func (p *program) pluginTestCommand(r *remote) *cobra.Command {
	in := edgehttp.PluginTest{}
	var set []string
	var show int
	cmd := &cobra.Command{
		Use:   "test NAME|FILE.wasm --topic T",
		Short: "Run a plugin over the last records of a topic and keep nothing",
		Args:  cobra.ExactArgs(1),
	}
	o := p.output(cmd)
	f := cmd.Flags()
	f.StringVar(&in.Topic, "topic", "", "the topic")
	f.IntVar(&in.Last, "last", 100, "how many records, over all partitions")
	f.StringArrayVar(&set, "set", nil, "KEY=VALUE that the plugin sees in its environment; repeatable")
	f.IntVar(&show, "show", 10, "print so many records with what came of them")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := o.check(); err != nil {
			return err
		}
		if in.Topic == "" {
			return usageError("say --topic; see %s --help", cmd.CommandPath())
		}
		if in.Set, err = pairs("set", set); err != nil {
			return err
		}
		in.Plugin = args[0]
		if strings.HasSuffix(args[0], ".wasm") {
			in.Plugin = "test"
			if in.Wasm, err = os.ReadFile(args[0]); err != nil {
				return err
			}
		}
		var rep edge.TestReport
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/plugin-tests", in, &rep); err != nil {
			return err
		}
		rep.Samples = rep.Samples[:min(show, len(rep.Samples))]
		return o.show(rep, testRows(rep))
	}
	return cmd
}

func testRows(rep edge.TestReport) []string {
	rows := []string{
		"IN\tOUT\tDROPPED\tERRORS\tTIME EACH\tFUEL EACH\tMEMORY",
		row(rep.In, rep.Out, rep.Dropped, rep.Errors, time.Duration(rep.NanosPerRecord), rep.FuelPerRecord, bytesText(rep.MemoryBytes)),
	}
	if len(rep.Samples) > 0 {
		rows = append(rows, "", "PARTITION\tOFFSET\tIN\tOUT")
	}
	for _, s := range rep.Samples {
		out := strings.Join(s.Out, " | ")
		switch {
		case s.Error != "":
			out = "error: " + s.Error
		case s.Dropped:
			out = "dropped"
		}
		rows = append(rows, row(s.Partition, s.Offset, cut(s.In), cut(out)))
	}
	for _, line := range rep.Log {
		rows = append(rows, "log: "+line)
	}
	return rows
}

// cut keeps a cell on the line.
func cut(s string) string {
	const most = 60
	s = fmt.Sprintf("%q", s)
	s = s[1 : len(s)-1]
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
