package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

type consumer struct {
	p         *program
	r         *remote
	topic     string
	from      string
	group     string
	partition int
	count     int
	follow    bool
	format    recordFormat
}

func (p *program) consumeCommand() *cobra.Command {
	c := consumer{p: p}
	var format string
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print committed records",
		Long: `Print committed records, up to the end of the topic, or with --follow as they come.

--format json prints one object a line. Other formats are text with
  %v value  %k key  %t topic  %p partition  %o offset  %T timestamp (ms)  %h headers  %% a percent sign  \n \t`,
		Args: cobra.ExactArgs(1),
	}
	c.r = p.remote(cmd)
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "earliest", "earliest, latest, an offset, an RFC 3339 time, or a duration back such as -1h")
	f.StringVar(&c.group, "group", "", "go on where this group stands, and commit what was printed")
	f.IntVar(&c.partition, "partition", -1, "read this one alone")
	f.IntVar(&c.count, "count", 0, "end after so many records")
	f.StringVar(&format, "format", "%v", "json, or text with %v, %k and others")
	f.BoolVar(&c.follow, "follow", false, "wait for more at the end")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c.topic = args[0]
		if c.format, err = parseFormat(format); err != nil {
			return err
		}
		return c.run(cmd.Context())
	}
	return cmd
}

func (c *consumer) run(ctx context.Context) error {
	at, err := c.committed(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.p.stdout)
	for printed := 0; c.count == 0 || printed < c.count; {
		page, err := c.page(ctx, at, c.count-printed)
		if err != nil {
			if c.follow && errors.Is(err, context.Canceled) {
				return nil // who follows ends with an interrupt
			}
			return err
		}
		for _, r := range page.Records {
			c.format.write(out, c.topic, r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		printed += len(page.Records)
		at = page.Next
		if c.group != "" && len(page.Records) > 0 {
			if err := c.commit(ctx, at); err != nil {
				return err
			}
		}
		if len(page.Records) == 0 && !c.follow {
			return nil
		}
	}
	return nil
}

func (c *consumer) page(ctx context.Context, at string, left int) (page edgehttp.Records, err error) {
	q := url.Values{"from": {c.from}}
	if at != "" {
		q.Set("at", at)
	}
	if c.partition >= 0 {
		q.Set("partition", strconv.Itoa(c.partition))
	}
	if left > 0 {
		q.Set("limit", strconv.Itoa(min(left, 1000)))
	}
	if c.follow {
		q.Set("wait", "20s")
	}
	err = c.r.call(ctx, http.MethodGet, "/v1/topics/"+escape(c.topic)+"/records?"+q.Encode(), nil, &page)
	return page, err
}

// committed is where the group stands in the topic; "" when it is new, or there is no group.
func (c *consumer) committed(ctx context.Context) (string, error) {
	if c.group == "" {
		return "", nil
	}
	var g edgehttp.Group
	err := c.r.call(ctx, http.MethodGet, "/v1/groups/"+escape(c.group), nil, &g)
	if e, ok := errors.AsType[*exitError](err); ok && e.status == exitNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if len(g.Members) > 0 {
		return "", fmt.Errorf("group %s has %d members, which share its partitions; use a group of your own", g.Name, len(g.Members))
	}
	var at []string
	for _, o := range g.Offsets {
		if o.Topic == c.topic {
			at = append(at, fmt.Sprintf("%d:%d", o.Partition, o.Offset))
		}
	}
	return strings.Join(at, ","), nil
}

func (c *consumer) commit(ctx context.Context, at string) error {
	var in edgehttp.Commit
	for part := range strings.SplitSeq(at, ",") {
		p, o, _ := strings.Cut(part, ":")
		partition, err1 := strconv.ParseInt(p, 10, 32)
		offset, err2 := strconv.ParseInt(o, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read the broker's answer: %w", err)
		}
		in.Offsets = append(in.Offsets, edgehttp.CommitOffset{Topic: c.topic, Partition: int32(partition), Offset: offset})
	}
	return c.r.call(ctx, http.MethodPut, "/v1/groups/"+escape(c.group)+"/offsets", in, nil)
}
