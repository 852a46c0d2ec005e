package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) sessionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "session", Short: "List, describe and delete MQTT sessions"}
	r := p.remote(cmd)
	cmd.AddCommand(p.sessionListCommand(r), p.sessionDescribeCommand(r), p.sessionDeleteCommand(r))
	return cmd
}

const sessionHead = "CLIENT\tUSER\tCONNECTED\tEXPIRY\tLEFT\tQUEUED"

func sessionRow(s edgehttp.MQTTSession) string {
	expiry, left := (time.Duration(s.ExpirySeconds) * time.Second).String(), ""
	switch {
	case s.ExpirySeconds < 0:
		expiry = "never"
	case s.ExpirySeconds == 0:
		expiry = "with its connection"
	}
	if s.Left != nil {
		left = s.Left.Format(time.RFC3339)
	}
	connected := "no"
	if s.Connected {
		connected = s.Version + " from " + s.Address
	}
	return row(s.Client, s.User, connected, expiry, left, bytesText(s.QueuedBytes))
}

func (p *program) sessionListCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the sessions of connected clients, and of those that may come back", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []edgehttp.MQTTSession
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/sessions", nil, &list); err != nil {
			return err
		}
		rows := []string{sessionHead}
		for _, s := range list {
			rows = append(rows, sessionRow(s))
		}
		return o.show(list, rows)
	}
	return cmd
}

func (p *program) sessionDescribeCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "describe CLIENT-ID", Short: "Show a session and its subscriptions", Args: cobra.ExactArgs(1)}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var s edgehttp.MQTTSession
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/sessions/"+escape(args[0]), nil, &s); err != nil {
			return err
		}
		rows := []string{sessionHead, sessionRow(s)}
		if !s.Connected {
			rows = append(rows, "", "COMMITS SINCE\tUNACKNOWLEDGED", row(s.BehindFrames, s.InFlight))
		}
		rows = append(rows, "", "FILTER\tQOS\tNO LOCAL\tRETAIN AS PUBLISHED\tID")
		for _, sub := range s.Subscriptions {
			rows = append(rows, row(sub.Filter, sub.QoS, sub.NoLocal, sub.RetainAsPublished, sub.ID))
		}
		return o.show(s, rows)
	}
	return cmd
}

func (p *program) sessionDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete CLIENT-ID",
		Short: "Disconnect a client and forget its session, with what waits for it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s edgehttp.MQTTSession
			path := "/v1/sessions/" + escape(args[0])
			if err := r.call(cmd.Context(), http.MethodGet, path, nil, &s); err != nil {
				return err
			}
			if err := p.confirm(yes, "Delete the session of %s and its %d subscriptions?", s.Client, len(s.Subscriptions)); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			p.note("deleted the session of %s", s.Client)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
