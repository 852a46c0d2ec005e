package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicTrimCommand(r *remote) *cobra.Command {
	var yes bool
	var partition int32
	in := edgehttp.TopicTrim{}
	cmd := &cobra.Command{
		Use:   "trim NAME --before WHERE",
		Short: "Delete a topic's oldest records",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Before == "" {
				return usageError("say --before with an offset, latest, a time, or a duration back such as -1h")
			}
			if cmd.Flags().Changed("partition") {
				in.Partition = &partition
			}
			path := "/v1/topics/" + escape(args[0]) + "/trim"
			var out edgehttp.Trimmed
			in.DryRun = true
			if err := r.call(cmd.Context(), http.MethodPost, path, in, &out); err != nil {
				return err
			}
			if out.Records == 0 {
				p.note("topic %s has nothing before %s", args[0], in.Before)
				return nil
			}
			if err := p.confirm(yes, "Delete %d records of topic %s?", out.Records, args[0]); err != nil {
				return err
			}
			in.DryRun = false
			if err := r.call(cmd.Context(), http.MethodPost, path, in, &out); err != nil {
				return err
			}
			p.note("deleted %d records of topic %s", out.Records, args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Before, "before", "", "an offset, latest (all there are), an RFC 3339 time, or a duration back such as -1h")
	cmd.Flags().Int32Var(&partition, "partition", 0, "this one alone (default all)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
