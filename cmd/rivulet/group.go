package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) groupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "List, describe, reset and delete consumer groups"}
	r := p.remote(cmd)
	cmd.AddCommand(p.groupListCommand(r), p.groupDescribeCommand(r), p.groupResetCommand(r), p.groupDeleteCommand(r))
	return cmd
}

func (p *program) groupListCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List groups", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []edgehttp.GroupListing
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/groups", nil, &list); err != nil {
			return err
		}
		rows := []string{"GROUP\tSTATE\tKIND"}
		for _, g := range list {
			rows = append(rows, row(g.Name, g.State, g.Kind))
		}
		return o.show(list, rows)
	}
	return cmd
}
