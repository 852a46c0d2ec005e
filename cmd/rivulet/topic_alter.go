package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicAlterCommand(r *remote) *cobra.Command {
	var set, unset []string
	var partitions int
	cmd := &cobra.Command{
		Use:   "alter NAME",
		Short: "Change a topic's configuration, or add partitions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := pairs("set", set)
			if err != nil {
				return err
			}
			in := edgehttp.TopicChange{Partitions: partitions, Config: map[string]*string{}}
			for k, v := range values {
				in.Config[k] = &v
			}
			for _, k := range unset {
				in.Config[k] = nil
			}
			if len(in.Config) == 0 && partitions == 0 {
				return usageError("nothing to change; say --set KEY=VALUE, --unset KEY or --partitions N")
			}
			if err := r.call(cmd.Context(), http.MethodPatch, "/v1/topics/"+escape(args[0]), in, nil); err != nil {
				return err
			}
			p.note("altered topic %s", args[0])
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "KEY=VALUE; repeatable")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "KEY to take back to its default; repeatable")
	cmd.Flags().IntVar(&partitions, "partitions", 0, "grow to so many")
	return cmd
}
