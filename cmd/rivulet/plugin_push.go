package main

import (
	"bytes"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"rivulet/edge"
)

func (p *program) pluginPushCommand(r *remote) *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use:   "push NAME FILE.wasm",
		Short: "Upload a WebAssembly module; what it is attached to goes over to it",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			wasm, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			var rev edge.Revision
			path := "/v1/plugins/" + escape(args[0]) + "?" + url.Values{"version": {version}}.Encode()
			if err := r.send(cmd.Context(), http.MethodPut, path, "application/wasm", bytes.NewReader(wasm), &rev); err != nil {
				return err
			}
			p.note("pushed %s revision %d, %s", args[0], rev.Number, bytesText(int64(rev.Bytes)))
			return nil
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "what its author calls it")
	return cmd
}
