package main

import (
	"net/http"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plugin", Short: "Push, test, attach and detach plugins"}
	r := p.remote(cmd)
	cmd.AddCommand(
		p.pluginPushCommand(r), p.pluginListCommand(r), p.pluginDescribeCommand(r), p.pluginTestCommand(r),
		p.pluginAttachCommand(r), p.pluginDetachCommand(r), p.pluginDeleteCommand(r),
	)
	return cmd
}

func (p *program) pluginListCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List plugins and where they are attached", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []edgehttp.PluginInfo
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/plugins", nil, &list); err != nil {
			return err
		}
		rows := []string{"PLUGIN\tREVISION\tVERSION\tSIZE\tTOPIC\tSTATE\tIN\tOUT\tDROPPED\tERRORS"}
		for _, i := range list {
			last := i.Revisions[len(i.Revisions)-1]
			head := []any{i.Name, last.Number, last.Version, bytesText(int64(last.Bytes))}
			if len(i.Attachments) == 0 {
				rows = append(rows, row(append(head, "", "", "", "", "", "")...))
			}
			for _, a := range i.Attachments {
				rows = append(rows, row(append(head, a.Topic, a.Stats.State, a.Stats.In, a.Stats.Out, a.Stats.Dropped, a.Stats.Errors)...))
			}
		}
		return o.show(list, rows)
	}
	return cmd
}
