package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a topic and its records",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var t edgehttp.Topic
			path := "/v1/topics/" + escape(args[0])
			if err := r.call(cmd.Context(), http.MethodGet, path, nil, &t); err != nil {
				return err
			}
			if err := p.confirm(yes, "Delete topic %s and its %d records?", t.Name, t.Records); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			p.note("deleted topic %s", t.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
