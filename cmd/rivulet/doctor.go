package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
	edgehttp "rivulet/edge/http"
	"rivulet/plugins"
	"rivulet/storage"
)

// finding is one thing that was looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warn, bad
	Detail string `json:"detail"`
}

func (p *program) doctorCommand() *cobra.Command {
	var file, dir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what would hurt here: disk, wear, clock, plugin engine, certificates, limits",
		Long: `Say what would hurt a broker here. Measures the disk in the data directory with a file of its own, and asks the
broker at --server, when there is one, for its present load. Exit status 4 when something is bad.`,
		Args: cobra.NoArgs,
	}
	r := p.remote(cmd)
	o := p.output(cmd)
	cmd.Flags().StringVar(&file, "config", "", "configuration file")
	cmd.Flags().StringVar(&dir, "data-dir", "", "the broker's data directory (default: the configuration's)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		c, err := config.Load(file, p.environ)
		if err := p.configErrors(err); err != nil {
			return err
		}
		if dir != "" {
			c.DataDir = dir
		}
		list := examine(cmd.Context(), c, r)
		rows := []string{"CHECK\tSTATE\tDETAIL"}
		bad := 0
		for _, f := range list {
			rows = append(rows, row(f.Check, f.State, f.Detail))
			if f.State == "bad" {
				bad++
			}
		}
		if err := o.show(list, rows); err != nil {
			return err
		}
		if bad > 0 {
			return reported{exitUnhealthy}
		}
		return nil
	}
	return cmd
}

func examine(ctx context.Context, c *config.Config, r *remote) []finding {
	list := []finding{checkConfig(c)}
	list = append(list, checkDisk(c.DataDir)...)
	list = append(list, checkClock(time.Now()), checkEngine(ctx), checkFiles())
	list = append(list, checkCertificates(c, time.Now())...)
	return append(list, checkBroker(ctx, r)...)
}

func checkConfig(c *config.Config) finding {
	if err := c.Check(); err != nil {
		return finding{"configuration", "bad", err.Error()}
	}
	return finding{"configuration", "ok", "fits together"}
}

// Bounds of the disk check.
const (
	syncs      = 50
	slowSync   = 20 * time.Millisecond
	minFree    = 256 << 20
	syncedSize = 4096
)

// checkDisk measures what an acknowledgement waits for: a write of one page and its sync, one after the other.
func checkDisk(dir string) []finding {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return []finding{{"disk", "bad", err.Error()}}
	}
	for { // before the first start the directory is not there: what it will lie in is on the same disk
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return []finding{{"disk", "bad", err.Error()}}
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }() // it held nothing
	took := make([]time.Duration, syncs)
	page := make([]byte, syncedSize)
	for i := range took {
		from := time.Now()
		_, err := f.WriteAt(page, int64(i)*syncedSize)
		if err := errors.Join(err, syncData(f)); err != nil {
			return []finding{{"disk", "bad", fmt.Sprintf("sync: %v", err)}}
		}
		took[i] = time.Since(from)
	}
	slices.Sort(took)
	p50, p99 := took[syncs/2], took[syncs*99/100]
	sync := finding{"disk sync", "ok", fmt.Sprintf("p50 %v, p99 %v: one publisher with one message in flight gets at most %.0f acknowledgements a second",
		p50.Round(time.Microsecond), p99.Round(time.Microsecond), 1/p50.Seconds())}
	if p50 > slowSync {
		sync.State = "warn"
	}
	list := []finding{sync}
	if free, ok := freeBytes(dir); ok {
		space := finding{"disk space", "ok", bytesText(free) + " free in " + dir}
		if free < minFree {
			space.State = "bad"
			space.Detail += "; make room, or lower retention.bytes of the topics"
		}
		list = append(list, space)
	}
	return list
}

// checkClock knows no other clock to ask; a gateway without a battery starts in 1970.
func checkClock(now time.Time) finding {
	if now.Year() < 2025 {
		return finding{"clock", "warn", "it says " + now.UTC().Format(time.RFC3339) + "; records will carry that until it is set"}
	}
	return finding{"clock", "ok", now.UTC().Format(time.RFC3339)}
}

func checkEngine(ctx context.Context) finding {
	h, err := plugins.NewHost(ctx, plugins.Options{})
	if err != nil {
		return finding{"plugin engine", "bad", err.Error()}
	}
	defer func() { _ = h.Close(ctx) }() // nothing ran in it
	if h.Engine() != "compiler" {
		return finding{"plugin engine", "warn", h.Engine() + ": plugins run 10 to 70 times slower; on amd64 and arm64 this is MemoryDenyWriteExecute of systemd"}
	}
	return finding{"plugin engine", "ok", h.Engine()}
}

// minFiles is what a few thousand devices need.
const minFiles = 4096

func checkFiles() finding {
	n, ok := openFiles()
	switch {
	case !ok:
		return finding{"open files", "ok", "no limit is known"}
	case n < minFiles:
		return finding{"open files", "warn", fmt.Sprintf("at most %d, one for each connection; raise it with ulimit -n or LimitNOFILE", n)}
	}
	return finding{"open files", "ok", fmt.Sprintf("at most %d", n)}
}

// certSoon is when a certificate that ends is worth a word.
const certSoon = 21 * 24 * time.Hour

func checkCertificates(c *config.Config, now time.Time) []finding {
	var list []finding
	l := c.Listeners
	for _, x := range []config.Listener{l.MQTTS, l.WSS, l.Kafkas, l.HTTPS} {
		if !x.Open() || x.TLS == nil {
			continue
		}
		name := "certificate " + filepath.Base(x.TLS.Cert)
		cert, err := tls.LoadX509KeyPair(x.TLS.Cert, x.TLS.Key)
		if err != nil {
			list = append(list, finding{name, "bad", err.Error()})
			continue
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			list = append(list, finding{name, "bad", err.Error()})
			continue
		}
		f := finding{name, "ok", "until " + leaf.NotAfter.UTC().Format(time.DateOnly)}
		switch left := leaf.NotAfter.Sub(now); {
		case left < 0:
			f.State = "bad"
		case left < certSoon:
			f.State = "warn"
		}
		list = append(list, f)
	}
	return list
}

// checkBroker asks a running broker what it keeps and writes.
func checkBroker(ctx context.Context, r *remote) []finding {
	b, err := r.brokerInfo(ctx)
	if errors.Is(err, errNoBroker) {
		return []finding{{"broker", "ok", "none is running here"}}
	}
	if err != nil {
		return []finding{{"broker", "warn", "cannot be asked: " + err.Error()}}
	}
	f := finding{"broker", "ok", fmt.Sprintf("%s, version %s, up since %s", b.Edge, b.Version, b.Started.Local().Format(time.DateTime))}
	switch {
	case b.Store.ReadOnly:
		f = finding{"broker", "bad", "the store is read-only after a failed journal sync: check the disk, then restart"}
	case b.Store.Full:
		f = finding{"broker", "bad", "the store is full and refuses records: " + b.Store.FullReason}
	}
	return append([]finding{f}, checkDamage(b), checkBudget(b.Store), checkDropped(b.Store), checkWear(ctx, r, b))
}

// checkDamage says what the broker could not read, at its start or since, and when all of it was looked at last.
func checkDamage(b edgehttp.Broker) finding {
	f := finding{"damage", "ok", "none is known"}
	if len(b.Damage) > 0 {
		d := b.Damage[0]
		f.State = "bad"
		f.Detail = fmt.Sprintf("%d places, the first: %s", len(b.Damage), strings.Join(strings.Fields(d.File+" "+d.Topic+" "+d.Where+" "+d.Detail), " "))
		f.Detail += "; see `rivulet verify` and the log; replace the disk, restore a backup if the records are missed"
	}
	switch sc := b.Scrub; {
	case sc.LastPass != nil:
		f.Detail += "; everything was read last at " + sc.LastPass.Local().Format(time.DateTime)
	case sc.Running:
		f.Detail += fmt.Sprintf("; the first scrub is under way, %s read", bytesText(int64(sc.Bytes)))
	default:
		f.Detail += "; nothing was scrubbed yet"
	}
	return f
}

// checkBudget says how much of storage.max_bytes is taken.
func checkBudget(st edgehttp.Store) finding {
	if st.BudgetBytes == 0 {
		return finding{"budget", "ok", bytesText(st.DiskBytes) + " are taken; storage.max_bytes sets no bound"}
	}
	return finding{"budget", "ok", fmt.Sprintf("%s of %s are taken", bytesText(st.DiskBytes), bytesText(st.BudgetBytes))}
}

// checkDropped says which records went since the broker's start. Those that went for want of room are worth a warning: nobody's retention
// asked for it.
func checkDropped(st edgehttp.Store) finding {
	f := finding{"dropped", "ok", "no records since its start"}
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(st.Dropped)) {
		list = append(list, fmt.Sprintf("%s %d", reason, st.Dropped[reason]))
	}
	if len(list) > 0 {
		f.Detail = "records since its start: " + strings.Join(list, ", ")
	}
	if st.Dropped[string(storage.DropBudget)] > 0 {
		f.State = "warn"
		f.Detail += "; the budget or the disk was full: `rivulet topic describe` tells of which topics"
	}
	return f
}

// wearWindow is how long the present load is watched, wearMost what a small card bears for years.
const (
	wearWindow = 2 * time.Second
	wearMost   = 50 << 30
)

// checkWear says what a day at the present load writes. Seals and checkpoints come seldom, so within the window only the journal
// is looked at; the rest is taken in its proportion since the start.
func checkWear(ctx context.Context, r *remote, before edgehttp.Broker) finding {
	from := time.Now()
	select {
	case <-time.After(wearWindow):
	case <-ctx.Done():
	}
	b, err := r.brokerInfo(ctx)
	if err != nil || b.Store.JournalBytes == 0 || b.Started != before.Started {
		return finding{"wear", "ok", "the broker wrote nothing yet"}
	}
	const day = 86400
	all := float64(b.Store.JournalBytes + b.Store.SealedBytes + b.Store.CopiedBytes + b.Store.CheckpointBytes) // journal files are made once
	now := float64(b.Store.JournalBytes-before.Store.JournalBytes) / time.Since(from).Seconds() * all / float64(b.Store.JournalBytes) * day
	mean := all / max(time.Since(b.Started).Seconds(), 1) * day
	f := finding{"wear", "ok", fmt.Sprintf("%s a day at the present load, %s at the mean since its start", bytesText(int64(now)), bytesText(int64(mean)))}
	if b.Store.RawBytes > 0 {
		f.Detail += fmt.Sprintf("; %.2f bytes written for each byte of records", all/float64(b.Store.RawBytes))
	}
	if max(now, mean) > wearMost {
		f.State = "warn"
		f.Detail += "; storage.linger lets commits share a write"
	}
	return f
}
