package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"

	edgehttp "rivulet/edge/http"
)

// received is a message as --format json prints it.
type received struct {
	Topic   string        `json:"topic"`
	Payload edgehttp.Data `json:"payload"`
	QoS     byte          `json:"qos"`
	Retain  bool          `json:"retain,omitempty"`
	Dup     bool          `json:"dup,omitempty"`
}

func (p *program) subCommand() *cobra.Command {
	var addr, format string
	var qos, count int
	cmd := &cobra.Command{
		Use:   "sub FILTER…",
		Short: "Subscribe over MQTT and print messages",
		Long: `Subscribe over MQTT and print messages, one a line, until an interrupt or --count.

--format json prints one object a line. Other formats are text with %v payload, %t topic, \n, \t.`,
		Args: cobra.MinimumNArgs(1),
	}
	r := p.remote(cmd)
	f := cmd.Flags()
	f.StringVar(&addr, "mqtt", "", "the broker's MQTT address (default: what --server says, else 127.0.0.1:1883)")
	f.IntVar(&qos, "qos", 1, "0, 1 or 2")
	f.IntVar(&count, "count", 0, "end after so many messages")
	f.StringVar(&format, "format", "%v", "json, or text with %v and %t")
	cmd.RunE = func(cmd *cobra.Command, filters []string) error {
		if err := checkQoS(qos); err != nil {
			return err
		}
		layout, err := parseFormat(format)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		messages := make(chan mqtt.Message, 1000)
		c, err := p.mqttConnect(ctx, r, addr, func(_ mqtt.Client, m mqtt.Message) {
			select {
			case messages <- m:
			case <-ctx.Done():
			}
		})
		if err != nil {
			return err
		}
		defer c.Disconnect(250)
		want := map[string]byte{}
		for _, filter := range filters {
			want[filter] = byte(qos)
		}
		if err := await(ctx, c.SubscribeMultiple(want, nil)); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		p.note("subscribed")
		return p.printMessages(cmd, c, messages, layout, count)
	}
	return cmd
}

func (p *program) printMessages(cmd *cobra.Command, c mqtt.Client, messages <-chan mqtt.Message, layout recordFormat, count int) error {
	out := bufio.NewWriter(p.stdout)
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for n := 0; count == 0 || n < count; {
		select {
		case m := <-messages:
			n++
			if layout != nil {
				layout.write(out, m.Topic(), edgehttp.Record{Value: m.Payload()})
			} else if line, err := json.Marshal(received{m.Topic(), m.Payload(), m.Qos(), m.Retained(), m.Duplicate()}); err == nil {
				_, _ = out.Write(append(line, '\n'))
			}
			if len(messages) == 0 || n == count {
				if err := out.Flush(); err != nil {
					return err
				}
			}
		case <-alive.C:
			if !c.IsConnected() {
				return errLost
			}
		case <-cmd.Context().Done():
			return nil
		}
	}
	return nil
}
