package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// output is how a verb shows what it lists.
type output struct {
	p      *program
	format string
}

func (p *program) output(cmd *cobra.Command) *output {
	o := &output{p: p}
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, json or yaml")
	return o
}

// check refuses an unknown format before anything is done.
func (o *output) check() error {
	switch o.format {
	case "table", "json", "yaml":
		return nil
	}
	return usageError("-o %s: want table, json or yaml", o.format)
}

// show writes v as JSON or YAML, or rows as a table: cells separated by tabs, the first row its head.
func (o *output) show(v any, rows []string) error {
	if o.format == "table" {
		return o.p.table(rows)
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if o.format == "yaml" {
		if data, err = yamlOf(data); err != nil {
			return err
		}
		_, err = o.p.stdout.Write(data)
		return err
	}
	_, err = fmt.Fprintf(o.p.stdout, "%s\n", data)
	return err
}

// yamlOf writes JSON as YAML in block style, with the keys in their order.
func yamlOf(data []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(data, &n); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	var plain func(n *yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0 // the encoder quotes what needs it
		for _, c := range n.Content {
			plain(c)
		}
	}
	plain(&n)
	out, err := yaml.Marshal(&n)
	if err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return out, nil
}

func (p *program) table(rows []string) error {
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.TrimRight(r, "\t"))
	}
	return w.Flush()
}

// row joins the cells of a table.
func row(cells ...any) string {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
		if text[i] == "" {
			text[i] = "-"
		}
	}
	return strings.Join(text, "\t")
}

// note tells what was done, apart from the data.
func (p *program) note(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) }

// confirm asks before something is deleted or overwritten.
func (p *program) confirm(yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	fmt.Fprintf(p.stderr, format+" [y/N] ", args...)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n') // the end of input is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("nothing was changed; answer y, or say --yes")
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	const units = "KMGT"
	f, i := float64(n), -1
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// pairs reads k=v flags.
func pairs(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usageError("--%s %s: want KEY=VALUE", flag, kv)
		}
		m[k] = v
	}
	return m, nil
}
