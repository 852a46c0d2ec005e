package main

import (
	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

func (p *program) topicCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "topic", Short: "List, create, describe, alter, trim and delete topics"}
	r := p.remote(cmd)
	cmd.AddCommand(p.topicListCommand(r), p.topicCreateCommand(r), p.topicDescribeCommand(r), p.topicAlterCommand(r), p.topicTrimCommand(r), p.topicDeleteCommand(r))
	return cmd
}

// topicRow is a topic's line in a table.
func topicRow(t edgehttp.Topic) string {
	return row(t.Name, len(t.Partitions), t.Records, bytesText(t.RawBytes), bytesText(t.StoredBytes))
}

const topicHead = "TOPIC\tPARTITIONS\tRECORDS\tRAW\tSTORED"
