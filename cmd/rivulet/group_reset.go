package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) groupResetCommand(r *remote) *cobra.Command {
	var in edgehttp.Reset
	cmd := &cobra.Command{Use: "reset GROUP --topic T --to WHEN", Short: "Move a group without members to another place in a topic", Args: cobra.ExactArgs(1)}
	o := p.output(cmd)
	cmd.Flags().StringVar(&in.Topic, "topic", "", "the topic")
	cmd.Flags().StringVar(&in.To, "to", "", "earliest, latest, an offset, an RFC 3339 time, or a duration back such as -1h")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		if in.Topic == "" || in.To == "" {
			return usageError("say --topic and --to; see %s --help", cmd.CommandPath())
		}
		var list []edgehttp.GroupOffset
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/groups/"+escape(args[0])+"/reset", in, &list); err != nil {
			return err
		}
		return o.show(list, offsetRows(list))
	}
	return cmd
}
