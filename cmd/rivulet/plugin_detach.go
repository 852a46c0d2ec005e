package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) pluginDetachCommand(r *remote) *cobra.Command {
	var topic string
	cmd := &cobra.Command{
		Use:   "detach NAME --topic T",
		Short: "Stop running a plugin on a topic",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if topic == "" {
				return usageError("say --topic; see %s --help", cmd.CommandPath())
			}
			if err := r.call(cmd.Context(), http.MethodDelete, "/v1/attachments/"+escape(topic)+"/"+escape(args[0]), nil, nil); err != nil {
				return err
			}
			p.note("detached %s from %s", args[0], topic)
			return nil
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "the topic")
	return cmd
}
