package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) aclCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Allow, deny, list, delete and test: who may do what",
		Long: `Access rules for MQTT, Kafka and HTTP alike. A rule that denies goes over all that allow; what no rule allows is denied.

  rivulet acl allow publish,subscribe --principal 'dev-*' --mqtt 'factory/{client}/#'
  rivulet acl allow read --principal reports --topic 'telemetry*'
  rivulet acl allow read --principal reports --group reports
  rivulet acl allow all --principal @operators
  rivulet acl deny publish --mqtt 'factory/+/firmware'
  rivulet acl test publish --principal dev-1 --client dev-1 --mqtt factory/dev-1/temp

Actions: on mqtt publish, subscribe · topic read, write, create, delete, alter, describe, describe_configs, alter_configs ·
group read, describe, delete · txn write, describe · cluster alter (administration), describe (figures), create, alter_configs,
describe_configs · plugin push, attach, describe · sync control, describe · all.
A name with * behind it is a prefix. {user}, {client} and {edge} stand for the principal's own.`,
	}
	r := p.remote(cmd)
	cmd.AddCommand(
		p.aclAddCommand(r, "allow", func(a *edgehttp.ACL, actions string) { a.Allow = actions }),
		p.aclAddCommand(r, "deny", func(a *edgehttp.ACL, actions string) { a.Deny = actions }),
		p.aclListCommand(r), p.aclDeleteCommand(r), p.aclTestCommand(r),
	)
	return cmd
}

// aclFlags are the resource and the principal of a rule or a question.
func aclFlags(cmd *cobra.Command, a *edgehttp.ACL) {
	f := cmd.Flags()
	f.StringVar(&a.User, "principal", "", "user, prefix*, @group, or anonymous (default: everyone)")
	f.StringVar(&a.MQTT, "mqtt", "", "MQTT topic filter")
	f.StringVar(&a.Topic, "topic", "", "topic of the log")
	f.StringVar(&a.Group, "group", "", "consumer group")
	f.StringVar(&a.Txn, "txn", "", "transactional id")
	f.StringVar(&a.Plugin, "plugin", "", "plugin")
	f.StringVar(&a.Sync, "sync", "", "uplink, downlink or bridge")
	f.BoolVar(&a.Cluster, "cluster", false, "the broker itself")
}

func (p *program) aclAddCommand(r *remote, verb string, set func(a *edgehttp.ACL, actions string)) *cobra.Command {
	var in edgehttp.ACL
	cmd := &cobra.Command{Use: verb + " ACTION[,ACTION]…", Short: "Add a rule that " + map[string]string{"allow": "allows", "deny": "denies"}[verb], Args: cobra.ExactArgs(1)}
	aclFlags(cmd, &in)
	cmd.Flags().StringVar(&in.Host, "host", "", "address or network that it holds for, such as 10.0.0.0/8 (default: any)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set(&in, args[0])
		var made edgehttp.ACL
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/acls", in, &made); err != nil {
			return err
		}
		p.note("added rule %s: %s", made.ID, aclText(made))
		return nil
	}
	return cmd
}

// aclText is a rule as people read it.
func aclText(a edgehttp.ACL) string {
	rule, err := a.Rule()
	if err != nil {
		return err.Error()
	}
	return rule.String()
}

func (p *program) aclListCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List rules, with where they are from", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []edgehttp.ACL
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/acls", nil, &list); err != nil {
			return err
		}
		rows := []string{"ID\tRULE\tFROM"}
		for _, a := range list {
			rows = append(rows, row(a.ID, aclText(a), a.Source))
		}
		return o.show(list, rows)
	}
	return cmd
}

func (p *program) aclDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete ID…",
		Short: "Delete rules of the store",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.confirm(yes, "Delete %d rules: %s?", len(args), strings.Join(args, ", ")); err != nil {
				return err
			}
			for _, id := range args {
				if err := r.call(cmd.Context(), http.MethodDelete, "/v1/acls/"+escape(id), nil, nil); err != nil {
					return err
				}
				p.note("deleted rule %s", id)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (p *program) aclTestCommand(r *remote) *cobra.Command {
	var on edgehttp.ACL
	var in edgehttp.ACLTest
	cmd := &cobra.Command{
		Use:   "test ACTION",
		Short: "Say whether something is allowed, and which rule decides; exit status 1 when it is denied",
		Args:  cobra.ExactArgs(1),
	}
	aclFlags(cmd, &on)
	cmd.Flags().StringSliceVar(&in.Groups, "groups", nil, "the user's groups (default: those of its record)")
	cmd.Flags().StringVar(&in.Client, "client", "", "MQTT or Kafka client id")
	cmd.Flags().StringVar(&in.Address, "address", "", "where it comes from")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Action, in.User = args[0], on.User
		given := 0
		for kind, name := range map[string]string{"mqtt": on.MQTT, "topic": on.Topic, "group": on.Group, "txn": on.Txn, "plugin": on.Plugin, "sync": on.Sync} {
			if name != "" {
				in.Kind, in.Resource = kind, name
				given++
			}
		}
		if on.Cluster {
			in.Kind = "cluster"
			given++
		}
		if given != 1 {
			return usageError("say what it is about: one of --mqtt, --topic, --group, --txn, --plugin, --sync, --cluster")
		}
		var d edgehttp.ACLDecision
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/acl-tests", in, &d); err != nil {
			return err
		}
		if !d.Allowed {
			return errors.New("denied: " + d.Reason)
		}
		_, err := fmt.Fprintln(p.stdout, "allowed:", d.Reason)
		return err
	}
	return cmd
}
