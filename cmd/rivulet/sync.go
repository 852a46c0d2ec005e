package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"rivulet/sync/bridge"
	"rivulet/sync/mirror"
)

func (p *program) syncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync", Short: "Show uplinks and bridges, pause and resume them"}
	r := p.remote(cmd)
	cmd.AddCommand(p.syncStatusCommand(r), p.syncSteerCommand(r, "pause", "Stop an uplink after its present transaction, or disconnect a bridge, whose messages wait at the other broker"),
		p.syncSteerCommand(r, "resume", "Send or connect again, also after a failure that waits for an operator"))
	return cmd
}

func (p *program) syncStatusCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the state of every uplink and bridge", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []mirror.Status
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/uplinks", nil, &list); err != nil {
			return err
		}
		var bridges []bridge.Status
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/bridges", nil, &bridges); err != nil {
			return err
		}
		rows := []string{"UPLINK\tSTATE\tLAG\tRECORDS\tSENT\tTRANSACTIONS\tLAST\tERROR"}
		for _, u := range list {
			rows = append(rows, row(u.Name, u.State, u.Lag, u.Records, bytesText(int64(u.Bytes)), u.Txns, u.LastTxn, u.Error))
		}
		if len(list) > 0 {
			rows = append(rows, "", "UPLINK\tTOPIC\tPARTITION\tTO\tPOSITION\tEND\tLAG\tBLOCKED")
		}
		for _, u := range list {
			for _, s := range u.Partitions {
				rows = append(rows, row(u.Name, s.Topic, s.Partition, s.To, s.Position, s.End, s.Lag, s.Blocked))
			}
		}
		all := make([]any, 0, len(list)+len(bridges))
		for _, u := range list {
			all = append(all, u)
		}
		if len(bridges) > 0 {
			rows = append(rows, "", "BRIDGE\tSTATE\tBROKER\tRECEIVED\tCOMMITTED\tIN FLIGHT\tREFUSED\tLAST\tERROR")
		}
		for _, b := range bridges {
			all = append(all, b)
			rows = append(rows, row(b.Name, b.State, b.Broker, b.Received, b.Committed, b.InFlight, b.Refused+b.Looped, b.LastAt, b.Error))
		}
		return o.show(all, rows)
	}
	return cmd
}

// syncSteerCommand is pause or resume, which differ in their name alone.
func (p *program) syncSteerCommand(r *remote, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// No bridge has the name of an uplink.
			err := r.call(cmd.Context(), http.MethodPost, "/v1/uplinks/"+escape(args[0])+"/"+verb, nil, nil)
			if e, ok := errors.AsType[*exitError](err); ok && e.status == exitNotFound {
				err = r.call(cmd.Context(), http.MethodPost, "/v1/bridges/"+escape(args[0])+"/"+verb, nil, nil)
			}
			if e, ok := errors.AsType[*exitError](err); ok && e.status == exitNotFound {
				return &exitError{exitNotFound, fmt.Errorf("there is neither an uplink nor a bridge %s in the configuration", args[0])}
			}
			if err != nil {
				return err
			}
			p.note("%sd %s", verb, args[0])
			return nil
		},
	}
}
