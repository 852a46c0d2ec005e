package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"rivulet/edge"
	"rivulet/plugins"
)

func (p *program) pluginAttachCommand(r *remote) *cobra.Command {
	in := edge.AttachSpec{}
	var set []string
	var onError string
	cmd := &cobra.Command{
		Use:   "attach NAME --topic T",
		Short: "Run a plugin on a topic's records before they are stored, or change how",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.Plugin, in.OnError = args[0], plugins.OnError(onError)
			if in.Topic == "" {
				return usageError("say --topic; see %s --help", cmd.CommandPath())
			}
			if in.Set, err = pairs("set", set); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodPut, "/v1/attachments", in, nil); err != nil {
				return err
			}
			p.note("attached %s to %s", in.Plugin, in.Topic)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Topic, "topic", "", "the topic")
	f.StringVar(&in.Stage, "stage", "ingest", "ingest: before the log")
	f.StringArrayVar(&in.Outputs, "output", nil, "a topic that it may write to; the first is the default; repeatable")
	f.StringArrayVar(&set, "set", nil, "KEY=VALUE that the plugin sees in its environment; repeatable")
	f.StringVar(&onError, "on-error", "dlq", "what becomes of a record that it fails on: dlq, drop, pass, reject or halt")
	f.IntVar(&in.Order, "order", 0, "among the plugins of the topic, lowest first")
	return cmd
}
