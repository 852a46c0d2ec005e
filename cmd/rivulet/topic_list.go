package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicListCommand(r *remote) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{Use: "list", Short: "List topics", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&internal, "internal", false, "with the broker's own topics")
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var all []edgehttp.Topic
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/topics", nil, &all); err != nil {
			return err
		}
		list, rows := []edgehttp.Topic{}, []string{topicHead}
		for _, t := range all {
			if internal || !t.Internal {
				list, rows = append(list, t), append(rows, topicRow(t))
			}
		}
		return o.show(list, rows)
	}
	return cmd
}
