package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) pluginDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a plugin that is attached nowhere, with all its revisions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/plugins/" + escape(args[0])
			if err := r.call(cmd.Context(), http.MethodGet, path, nil, nil); err != nil {
				return err
			}
			if err := p.confirm(yes, "Delete plugin %s and all its revisions?", args[0]); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			p.note("deleted plugin %s", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
