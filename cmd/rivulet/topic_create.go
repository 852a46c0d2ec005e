package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicCreateCommand(r *remote) *cobra.Command {
	in := edgehttp.NewTopic{}
	var settings []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.Name = args[0]
			if in.Config, err = pairs("config", settings); err != nil {
				return err
			}
			var t edgehttp.Topic
			if err := r.call(cmd.Context(), http.MethodPost, "/v1/topics", in, &t); err != nil {
				return err
			}
			p.note("created topic %s with %d partitions", t.Name, len(t.Partitions))
			return nil
		},
	}
	cmd.Flags().IntVar(&in.Partitions, "partitions", 0, "how many (default 1)")
	cmd.Flags().StringArrayVar(&settings, "config", nil, "KEY=VALUE of the topic's configuration; repeatable")
	return cmd
}
