package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os/exec"

	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
	"rivulet/edge/mqtt/packet"
)

// received is a message as --format json prints it.
type received struct {
	Topic         string            `json:"topic"`
	Payload       edgehttp.Data     `json:"payload"`
	QoS           byte              `json:"qos"`
	Retain        bool              `json:"retain,omitempty"`
	Dup           bool              `json:"dup,omitempty"`
	ContentType   string            `json:"content_type,omitempty"`
	ResponseTopic string            `json:"response_topic,omitempty"`
	Correlation   edgehttp.Data     `json:"correlation_data,omitempty"`
	Properties    map[string]string `json:"properties,omitempty"` // user properties; of two with one name the last
}

func (p *program) subCommand() *cobra.Command {
	var format, replay, id, reply string
	var qos, count int
	cmd := &cobra.Command{
		Use:   "sub FILTER…",
		Short: "Subscribe over MQTT and print messages",
		Long: `Subscribe over MQTT and print messages, one a line, until an interrupt or --count.

--replay-from begins with what the log holds from then on: earliest, a time such as 2026-01-02T15:04:05Z, or a duration back such
as -1h. Live messages follow.
--id keeps the session for a day: what comes meanwhile, or was not printed, is delivered the next time; retained messages once.
--reply runs a shell command for each request, its payload on standard input, and publishes what it prints to the request's
response topic.
--format json prints one object a line. Other formats are text with %v payload, %t topic, \n, \t.`,
		Args: cobra.MinimumNArgs(1),
	}
	r := p.remote(cmd)
	f := cmd.Flags()
	m := r.mqttFlags(f)
	f.IntVar(&qos, "qos", 1, "0, 1 or 2")
	f.IntVar(&count, "count", 0, "end after so many messages")
	f.StringVar(&format, "format", "%v", "json, or text with %v and %t")
	f.StringVar(&replay, "replay-from", "", "earliest, an RFC 3339 time, or a duration back such as -1h")
	f.StringVar(&id, "id", "", "client id of a session that is kept")
	f.StringVar(&reply, "reply", "", "shell command that answers requests")
	cmd.RunE = func(cmd *cobra.Command, filters []string) error {
		if err := checkQoS(qos); err != nil {
			return err
		}
		layout, err := parseFormat(format)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		c, err := m.connect(ctx, id)
		if err != nil {
			return err
		}
		defer c.close()
		var s packet.Subscribe
		topic := packet.Subscription{QoS: byte(qos)}
		if id != "" {
			topic.RetainHandling = 1 // a session that has the subscription got them (MQTT-3.3.1-10)
		}
		for _, filter := range filters {
			topic.Filter = []byte(filter)
			s.Topics = append(s.Topics, topic)
		}
		if replay != "" {
			s.Properties.UserRaw = packet.AppendUser(nil, "replay-from", replay)
		}
		if err := c.subscribe(ctx, s); err != nil {
			return err
		}
		p.note("subscribed")
		return p.printMessages(ctx, c, layout, count, reply)
	}
	return cmd
}

func (p *program) printMessages(ctx context.Context, c *mqttClient, layout recordFormat, count int, reply string) error {
	out := bufio.NewWriter(p.stdout)
	var printed []packet.Publish // since the last flush
	for n := 0; count == 0 || n < count; {
		select {
		case m := <-c.messages:
			n++
			printMessage(out, layout, &m)
			printed = append(printed, m)
			if len(c.messages) > 0 && len(printed) < mqttWindow/2 && n != count && reply == "" {
				continue
			}
			if err := out.Flush(); err != nil {
				return err
			}
			if reply != "" {
				p.answer(ctx, c, &m, reply)
			}
			if err := c.acknowledge(printed...); err != nil {
				return err
			}
			printed = printed[:0]
		case <-c.ended:
			return c.err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func printMessage(out *bufio.Writer, layout recordFormat, m *packet.Publish) {
	if layout != nil {
		layout.write(out, string(m.Topic), edgehttp.Record{Value: m.Payload})
		return
	}
	r := received{
		Topic: string(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Dup: m.Dup, ContentType: string(m.Properties.ContentType),
		ResponseTopic: string(m.Properties.ResponseTopic), Correlation: m.Properties.CorrelationData,
	}
	for key, value := range m.Properties.User {
		if r.Properties == nil {
			r.Properties = map[string]string{}
		}
		r.Properties[string(key)] = string(value)
	}
	if line, err := json.Marshal(r); err == nil {
		_, _ = out.Write(append(line, '\n')) // Flush tells
	}
}

// answer runs the command for a request. What cannot be answered is said and passed over: the next one may be.
func (p *program) answer(ctx context.Context, c *mqttClient, m *packet.Publish, command string) {
	if len(m.Properties.ResponseTopic) == 0 {
		p.note("no answer: the message on %s names no response topic", m.Topic)
		return
	}
	sh := exec.CommandContext(ctx, "sh", "-c", command)
	sh.Stdin, sh.Stderr = bytes.NewReader(m.Payload), p.stderr
	out, err := sh.Output()
	if err != nil {
		p.note("no answer to the message on %s: %v", m.Topic, err)
		return
	}
	a := packet.Publish{Topic: m.Properties.ResponseTopic, Payload: bytes.TrimSuffix(out, []byte("\n")), QoS: m.QoS}
	if len(m.Properties.CorrelationData) > 0 {
		a.Properties.CorrelationData = m.Properties.CorrelationData
		a.Properties.Mark(packet.PropCorrelationData)
	}
	if _, err := awaitAnswer(ctx, c.publish(a)); err != nil {
		p.note("no answer to the message on %s: %v", m.Topic, err)
	}
}
