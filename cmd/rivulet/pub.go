package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"
)

// pubWindow is how many publishes may wait for their acknowledgement; the broker commits them together.
const pubWindow = 500

func (p *program) pubCommand() *cobra.Command {
	var addr, text string
	var qos int
	var retain bool
	cmd := &cobra.Command{
		Use:   "pub MQTT-TOPIC",
		Short: "Publish over MQTT: a text, or the lines of standard input",
		Args:  cobra.ExactArgs(1),
	}
	r := p.remote(cmd)
	f := cmd.Flags()
	f.StringVar(&addr, "mqtt", "", "the broker's MQTT address (default: what --server says, else 127.0.0.1:1883)")
	f.StringVarP(&text, "message", "m", "", "publish this")
	f.IntVar(&qos, "qos", 1, "0, 1 or 2")
	f.BoolVar(&retain, "retain", false, "keep it for who subscribes later")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkQoS(qos); err != nil {
			return err
		}
		c, err := p.mqttConnect(cmd.Context(), r, addr, nil)
		if err != nil {
			return err
		}
		defer c.Disconnect(1000)
		if cmd.Flags().Changed("message") {
			return await(cmd.Context(), c.Publish(args[0], byte(qos), retain, text))
		}
		return p.pubLines(cmd.Context(), c, args[0], byte(qos), retain)
	}
	return cmd
}

func (p *program) pubLines(ctx context.Context, c mqtt.Client, topic string, qos byte, retain bool) error {
	lines := bufio.NewReader(p.stdin)
	var open []mqtt.Token
	sent := 0
	settle := func(keep int) error {
		for len(open) > keep {
			if err := await(ctx, open[0]); err != nil {
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
			open = append(open, c.Publish(topic, qos, retain, line))
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
