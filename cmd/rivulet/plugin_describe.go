package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) pluginDescribeCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME", Short: "Show a plugin's revisions and attachments", Args: cobra.ExactArgs(1)}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var i edgehttp.PluginInfo
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/plugins/"+escape(args[0]), nil, &i); err != nil {
			return err
		}
		rows := []string{"REVISION\tVERSION\tSIZE\tSHA256\tAT"}
		for _, v := range i.Revisions {
			rows = append(rows, row(v.Number, v.Version, bytesText(int64(v.Bytes)), v.SHA256[:16], v.At.Local().Format(time.DateTime)))
		}
		rows = append(rows, "", "TOPIC\tSTATE\tON ERROR\tIN\tOUT\tDROPPED\tDEAD\tREJECTED\tMEMORY\tLAST ERROR")
		for _, a := range i.Attachments {
			s := a.Stats
			rows = append(rows, row(a.Topic, s.State, a.OnError, s.In, s.Out, s.Dropped, s.Dead, s.Rejected, bytesText(s.MemoryBytes), s.LastError))
		}
		return o.show(i, rows)
	}
	return cmd
}
