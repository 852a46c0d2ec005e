package main

import (
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicDescribeCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME", Short: "Show a topic, its partitions and configuration", Args: cobra.ExactArgs(1)}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var t edgehttp.Topic
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/topics/"+escape(args[0]), nil, &t); err != nil {
			return err
		}
		rows := []string{topicHead, topicRow(t), "", "PARTITION\tSTART\tSTABLE\tEND\tRAW\tSTORED"}
		for _, d := range t.Partitions {
			rows = append(rows, row(d.Partition, d.Start, d.Stable, d.High, bytesText(d.RawBytes), bytesText(d.StoredBytes)))
		}
		if len(t.Dropped) > 0 {
			rows = append(rows, "", "DROPPED FOR\tRECORDS")
			for _, why := range slices.Sorted(maps.Keys(t.Dropped)) {
				rows = append(rows, row(why, t.Dropped[why]))
			}
		}
		if len(t.Config) > 0 {
			rows = append(rows, "", "CONFIG\tVALUE")
			for _, k := range slices.Sorted(maps.Keys(t.Config)) {
				rows = append(rows, row(k, t.Config[k]))
			}
		}
		return o.show(t, rows)
	}
	return cmd
}
