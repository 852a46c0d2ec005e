package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/auth"
	edgehttp "rivulet/edge/http"
)

func (p *program) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Make, change, list and delete users",
		Long: `Make, change, list and delete users, for MQTT, Kafka and HTTP alike.

The first one is made on the gateway itself, by the socket that serves the data directory's owner without a password:

  rivulet user add ann --admin --server unix:rivulet-data/admin.sock

A new password is the first line of standard input, or of --new-password-file; --generate makes one and prints it.`,
	}
	r := p.remote(cmd)
	cmd.AddCommand(p.userListCommand(r), p.userAddCommand(r), p.userPasswdCommand(r), p.userDeleteCommand(r), p.userHashCommand())
	return cmd
}

// newPassword is how verbs take one: never as an argument, which other users of the machine can see.
type newPassword struct {
	p        *program
	file     string
	generate bool
}

func (p *program) newPassword(cmd *cobra.Command) *newPassword {
	n := &newPassword{p: p}
	cmd.Flags().StringVar(&n.file, "new-password-file", "", "file with the new password (default: standard input)")
	cmd.Flags().BoolVar(&n.generate, "generate", false, "make a password and print it")
	return n
}

func (n *newPassword) read() (string, error) {
	switch {
	case n.generate && n.file != "":
		return "", usageError("--generate and --new-password-file exclude each other")
	case n.generate:
		return rand.Text(), nil
	case n.file != "":
		return firstLine(n.file)
	}
	if isTerminal(n.p.stdin) {
		fmt.Fprint(n.p.stderr, "New password: ")
		back := hideInput(n.p.stdin)
		defer func() {
			back()
			fmt.Fprintln(n.p.stderr)
		}()
	}
	line, err := bufio.NewReader(n.p.stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read new password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", usageError("the new password is empty; give it on standard input, or say --new-password-file or --generate")
	}
	return line, auth.CheckPassword(line)
}

// show prints a password that was made, since nobody else knows it.
func (n *newPassword) show(password string) {
	if n.generate {
		fmt.Fprintln(n.p.stdout, password)
	}
}

func (p *program) userListCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List users", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var list []edgehttp.User
		if err := r.call(cmd.Context(), http.MethodGet, "/v1/users", nil, &list); err != nil {
			return err
		}
		rows := []string{"USER\tGROUPS\tPASSWORD\tSTATE\tCHANGED"}
		for _, u := range list {
			state, changed := "enabled", ""
			if u.Disabled {
				state = "disabled"
			}
			if !u.Changed.IsZero() {
				changed = u.Changed.Format("2006-01-02 15:04")
			}
			rows = append(rows, row(u.Name, strings.Join(u.Groups, ","), strings.Join(u.Mechanisms, ","), state, changed))
		}
		return o.show(list, rows)
	}
	return cmd
}

func (p *program) userAddCommand(r *remote) *cobra.Command {
	in := edgehttp.NewUser{}
	var without bool
	cmd := &cobra.Command{Use: "add NAME", Short: "Make a user", Args: cobra.ExactArgs(1)}
	n := p.newPassword(cmd)
	cmd.Flags().StringSliceVar(&in.Groups, "group", nil, "a group of users, by which rules speak of it as @GROUP; repeatable")
	cmd.Flags().BoolVar(&in.Admin, "admin", false, "allow it everything, administration too")
	cmd.Flags().BoolVar(&without, "no-password", false, "it logs in by certificate or token alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		in.Name = args[0]
		if !without {
			if in.Password, err = n.read(); err != nil {
				return err
			}
		}
		if err := r.call(cmd.Context(), http.MethodPost, "/v1/users", in, nil); err != nil {
			return err
		}
		n.show(in.Password)
		p.note("made user %s", in.Name)
		if !in.Admin {
			p.note("it may do what rules allow; see rivulet acl allow --help")
		}
		return nil
	}
	return cmd
}

func (p *program) userPasswdCommand(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "passwd NAME", Short: "Change a user's password and end what is logged in with the old one", Args: cobra.ExactArgs(1)}
	n := p.newPassword(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		password, err := n.read()
		if err != nil {
			return err
		}
		if err := r.call(cmd.Context(), http.MethodPatch, "/v1/users/"+escape(args[0]), edgehttp.UserChange{Password: &password}, nil); err != nil {
			return err
		}
		n.show(password)
		p.note("changed the password of %s", args[0])
		return nil
	}
	return cmd
}

func (p *program) userDeleteCommand(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a user and end its connections",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/users/" + escape(args[0])
			if err := r.call(cmd.Context(), http.MethodGet, path, nil, nil); err != nil {
				return err
			}
			if err := p.confirm(yes, "Delete user %s?", args[0]); err != nil {
				return err
			}
			if err := r.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			p.note("deleted user %s", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (p *program) userHashCommand() *cobra.Command {
	var groups []string
	var iterations int
	cmd := &cobra.Command{Use: "hash NAME", Short: "Print an entry for a users file (auth.users_file); asks no broker", Args: cobra.ExactArgs(1)}
	n := p.newPassword(cmd)
	cmd.Flags().StringSliceVar(&groups, "group", nil, "a group of users; repeatable")
	cmd.Flags().IntVar(&iterations, "iterations", auth.DefaultIterations, "of PBKDF2")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if n.generate {
			return usageError("--generate would print the password beside its hash; make one first")
		}
		password, err := n.read()
		if err != nil {
			return err
		}
		u := auth.User{Name: args[0], Groups: groups}
		for _, m := range []string{auth.SHA256, auth.SHA512} {
			c, err := auth.NewCredential(m, password, iterations, rand.Reader)
			if err != nil {
				return err
			}
			u.Credentials = append(u.Credentials, c)
		}
		if err := u.Check(); err != nil {
			return err
		}
		out, err := config.PrintUser(u)
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(out)
		return err
	}
	return cmd
}
