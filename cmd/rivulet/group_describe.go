package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) groupDescribeCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "describe GROUP", Short: "Show a group's members, offsets and lag", Args: cobra.ExactArgs(1)}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var g edgehttp.Group
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/groups/"+escape(args[0]), nil, &g); err != nil {
			return err
		}
		rows := []string{"GROUP\tSTATE\tMEMBERS\tLAG", row(g.Name, g.State, len(g.Members), g.Lag), ""}
		rows = append(rows, offsetRows(g.Offsets)...)
		if len(g.Members) > 0 {
			rows = append(rows, "", "MEMBER\tCLIENT\tHOST")
			for _, m := range g.Members {
				rows = append(rows, row(m.ID, m.Client, m.Host))
			}
		}
		return o.show(g, rows)
	}
	return cmd
}

func offsetRows(list []edgehttp.GroupOffset) []string {
	rows := []string{"TOPIC\tPARTITION\tOFFSET\tEND\tLAG"}
	for _, o := range list {
		rows = append(rows, row(o.Topic, o.Partition, o.Offset, o.End, o.Lag))
	}
	return rows
}
