package main

import (
	"bytes"
	"context"
	"net/http"

	"rivulet/edge"
	"rivulet/examples/plugins/builtin"
)

// upload pushes and attaches the filter as anyone would: over HTTP.
func (d *demo) upload(ctx context.Context) error {
	r := &remote{p: d.p, server: d.edge.address("http")}
	wasm := builtin.DropCold(demoThreshold)
	if err := r.send(ctx, http.MethodPut, "/v1/plugins/"+demoPlugin, "application/wasm", bytes.NewReader(wasm), nil); err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, "/v1/attachments", edge.AttachSpec{Plugin: demoPlugin, Topic: demoTopic}, nil)
}
