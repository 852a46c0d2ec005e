package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) groupDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete GROUP",
		Short: "Delete a group without members, and its offsets",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/groups/" + escape(args[0])
			if err := r.call(cmd.Context(), http.MethodGet, path, nil, nil); err != nil {
				return err
			}
			if err := p.confirm(yes, "Delete group %s and its offsets?", args[0]); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			p.note("deleted group %s", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
