package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

// produceBatch is how many lines go into one request while more are waiting.
const produceBatch = 1000

func (p *program) produceCommand() *cobra.Command {
	var key, file string
	var headers []string
	var partition int32
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Store records, a line each, from standard input or a file",
		Args:  cobra.ExactArgs(1),
	}
	r := p.remote(cmd)
	cmd.Flags().StringVar(&key, "key", "", "key of all of them")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "KEY=VALUE; repeatable")
	cmd.Flags().Int32Var(&partition, "partition", -1, "store there (default: by key, else in turn)")
	cmd.Flags().StringVar(&file, "file", "", "read values from this file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		template := edgehttp.NewRecord{}
		if cmd.Flags().Changed("key") {
			template.Key = edgehttp.Data(key)
		}
		if partition >= 0 {
			template.Partition = &partition
		}
		fields, err := pairs("header", headers)
		if err != nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			template.Headers = append(template.Headers, edgehttp.Header{Key: k, Value: edgehttp.Data(fields[k])})
		}
		in := p.stdin
		if file != "" {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // only read
			in = f
		}
		return p.produce(cmd.Context(), r, args[0], template, in)
	}
	return cmd
}

// produce sends what is there, so that a line that someone types is stored at once and a file goes in large requests.
func (p *program) produce(ctx context.Context, r *remote, topic string, template edgehttp.NewRecord, in io.Reader) error {
	lines := bufio.NewReaderSize(in, 256<<10)
	var batch edgehttp.NewRecords
	stored := 0
	for {
		line, err := readLine(lines)
		if err == nil {
			rec := template
			rec.Value = line
			batch.Records = append(batch.Records, rec)
		}
		if n := len(batch.Records); n > 0 && (err != nil || n == produceBatch || lines.Buffered() == 0) {
			var out edgehttp.Stored
			if err := r.call(ctx, http.MethodPost, "/v1/topics/"+escape(topic)+"/records", batch, &out); err != nil {
				return fmt.Errorf("after %d records: %w", stored, err)
			}
			for _, placed := range out.Records {
				if placed.Error != "" {
					return fmt.Errorf("after %d records: %s", stored, placed.Error)
				}
				stored++
			}
			batch.Records = batch.Records[:0]
		}
		switch {
		case errors.Is(err, io.EOF):
			p.note("stored %d records in %s", stored, topic)
			return nil
		case err != nil:
			return fmt.Errorf("read values: %w", err)
		}
	}
}

// readLine returns a line of its own memory, without its end. The last one need not have an end.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
		return nil, err
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}
