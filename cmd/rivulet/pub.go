package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rivulet/edge/mqtt/packet"
)

// pubWindow is how many publishes may wait for their acknowledgement; the broker commits them together.
const pubWindow = 500

// pubFlags are what a publish carries.
type pubFlags struct {
	text, contentType, respond, format string
	qos                                int
	retain, request                    bool
	user                               []string
	expiry, timeout                    time.Duration
}

// mqttFlags adds the flags of verbs that speak MQTT.
func (r *remote) mqttFlags(f *pflag.FlagSet) *mqttFlags {
	m := &mqttFlags{r: r}
	f.StringVar(&m.addr, "mqtt", "", "the broker's MQTT address, HOST:PORT, ssl://HOST:PORT or unix:PATH (default: what --server says, else 127.0.0.1:1883)")
	f.StringVar(&m.ca, "tls-ca", "", "PEM file with the authority of the broker's certificate; implies TLS")
	return m
}

func (p *program) pubCommand() *cobra.Command {
	var pf pubFlags
	cmd := &cobra.Command{
		Use:   "pub MQTT-TOPIC",
		Short: "Publish over MQTT: a text, or the lines of standard input",
		Long: `Publish over MQTT: a text, or the lines of standard input, each a message.

--request publishes one message with a response topic and correlation data, prints the first answer and ends. Whoever answers
publishes to the response topic with the same correlation data, as rivulet sub --reply does.`,
		Args: cobra.ExactArgs(1),
	}
	r := p.remote(cmd)
	f := cmd.Flags()
	m := r.mqttFlags(f)
	f.StringVarP(&pf.text, "message", "m", "", "publish this")
	f.IntVar(&pf.qos, "qos", 1, "0, 1 or 2")
	f.BoolVar(&pf.retain, "retain", false, "keep it for who subscribes later")
	f.StringArrayVar(&pf.user, "property", nil, "NAME=VALUE, a user property; may be repeated")
	f.StringVar(&pf.contentType, "content-type", "", "what the payload is")
	f.DurationVar(&pf.expiry, "expiry", 0, "nobody gets it later than this")
	f.BoolVar(&pf.request, "request", false, "wait for the answer and print it")
	f.StringVar(&pf.respond, "response-topic", "", "where answers go (default with --request: one of its own)")
	f.DurationVar(&pf.timeout, "timeout", 30*time.Second, "how long --request waits")
	f.StringVar(&pf.format, "format", "%v", "of the answer: json, or text with %v and %t")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pub, err := pf.message(args[0])
		if err != nil {
			return err
		}
		if pf.request && !cmd.Flags().Changed("message") {
			return usageError("--request sends one message; give it with -m")
		}
		layout, err := parseFormat(pf.format)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		c, err := m.connect(ctx, "")
		if err != nil {
			return err
		}
		defer c.close()
		switch {
		case pf.request:
			return p.request(ctx, c, pub, pf, layout)
		case cmd.Flags().Changed("message"):
			_, err := awaitAnswer(ctx, c.publish(pub))
			return err
		}
		return p.pubLines(ctx, c, pub)
	}
	return cmd
}

// message is the packet that the flags describe.
func (pf *pubFlags) message(topic string) (m packet.Publish, err error) {
	if err := checkQoS(pf.qos); err != nil {
		return m, err
	}
	if !packet.ValidTopic([]byte(topic)) {
		return m, usageError("%q is no topic to publish to: it is empty, or has + or # in it", topic)
	}
	m = packet.Publish{Topic: []byte(topic), Payload: []byte(pf.text), QoS: byte(pf.qos), Retain: pf.retain}
	if pf.contentType != "" {
		m.Properties.ContentType = []byte(pf.contentType)
		m.Properties.Mark(packet.PropContentType)
	}
	if pf.respond != "" {
		m.Properties.ResponseTopic = []byte(pf.respond)
		m.Properties.Mark(packet.PropResponseTopic)
	}
	if pf.expiry > 0 {
		m.Properties.MessageExpiry = uint32(max(1, pf.expiry/time.Second))
		m.Properties.Mark(packet.PropMessageExpiry)
	}
	for _, u := range pf.user {
		name, value, ok := strings.Cut(u, "=")
		if !ok {
			return m, usageError("--property %s: want NAME=VALUE", u)
		}
		m.Properties.UserRaw = packet.AppendUser(m.Properties.UserRaw, name, value)
	}
	return m, nil
}

// request publishes one message and prints the answer.
func (p *program) request(ctx context.Context, c *mqttClient, m packet.Publish, pf pubFlags, layout recordFormat) error {
	if pf.respond == "" {
		m.Properties.ResponseTopic = []byte("rivulet/answers/" + c.id)
		m.Properties.Mark(packet.PropResponseTopic)
	}
	m.Properties.CorrelationData = []byte(rand.Text())
	m.Properties.Mark(packet.PropCorrelationData)
	ctx, cancel := context.WithTimeout(ctx, pf.timeout)
	defer cancel()
	err := c.subscribe(ctx, packet.Subscribe{Topics: []packet.Subscription{{Filter: m.Properties.ResponseTopic, QoS: 1, RetainHandling: 2, NoLocal: true}}})
	if err != nil {
		return err
	}
	if _, err := awaitAnswer(ctx, c.publish(m)); err != nil {
		return fmt.Errorf("publish the request: %w", err)
	}
	for {
		select {
		case a := <-c.messages:
			if err := c.acknowledge(a); err != nil {
				return err
			}
			if string(a.Properties.CorrelationData) != string(m.Properties.CorrelationData) {
				continue
			}
			out := bufio.NewWriter(p.stdout)
			printMessage(out, layout, &a)
			return out.Flush()
		case <-c.ended:
			return c.err
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("nobody answered within %s", pf.timeout)
			}
			return ctx.Err()
		}
	}
}

func (p *program) pubLines(ctx context.Context, c *mqttClient, m packet.Publish) error {
	lines := bufio.NewReader(p.stdin)
	var open []<-chan answer
	sent := 0
	settle := func(keep int) error {
		for len(open) > keep {
			if _, err := awaitAnswer(ctx, open[0]); err != nil {
				return fmt.Errorf("after %d messages: %w", sent, err)
			}
			open = open[1:]
			sent++
		}
		return nil
	}
	for {
		line, err := readLine(lines)
		if err == nil {
			m.Payload = line
			open = append(open, c.publish(m))
		}
		keep := pubWindow
		if err != nil || lines.Buffered() == 0 {
			keep = 0
		}
		if err := settle(keep); err != nil {
			return err
		}
		switch {
		case errors.Is(err, io.EOF):
			p.note("published %d messages", sent)
			return nil
		case err != nil:
			return fmt.Errorf("read messages: %w", err)
		}
	}
}
