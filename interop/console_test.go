//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// The console in a real Chromium: it shows the topic that devices publish to, moves while they do, asks nobody but its broker, and has no
// error to report.
func TestConsole(t *testing.T) {
	p := started(t)
	publish50(t, p, 0, 20)

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(t.TempDir()),
	)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, options...)
	defer stopBrowser()
	ctx, closeTab := chromedp.NewContext(ctx)
	defer closeTab()

	var mu sync.Mutex
	var complaints []string
	complain := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		complaints = append(complaints, fmt.Sprintf(format, a...))
	}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complain("exception: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				complain("error: %s %s", e.Entry.Text, e.Entry.URL)
			}
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "http://"+p.HTTP+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "ws://"+p.HTTP+"/") {
				complain("asks %s", u)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}

	// A publisher goes on while the page is looked at.
	publishing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	d := &device{ledger: &ledger{source: "console"}, addr: p.MQTT, pace: slow, rnd: rand.New(rand.NewPCG(1, 1))}
	wg.Go(func() {
		if err := d.run(ctx, publishing); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})

	enable := func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, tab, log.Enable, cdp.Empty{})
		return err
	}
	err = chromedp.Do(ctx,
		chromedp.Func(enable),
		chromedp.Navigate("http://"+p.HTTP+"/"),
		chromedp.Poll[chromedp.Void](`/\bmqtt\b/.test(document.body.innerText)`, chromedp.WithPollingTimeout(20*time.Second)),
		chromedp.Evaluate[chromedp.Void](`window.firstText = document.body.innerText`),
		chromedp.Poll[chromedp.Void](`document.body.innerText != window.firstText`, chromedp.WithPollingTimeout(20*time.Second)),
	)
	text, textErr := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err = errors.Join(err, textErr); err != nil {
		t.Fatalf("%v\npage: %s", err, text)
	}
	title, err := chromedp.Run(ctx, chromedp.Title())
	if err != nil {
		t.Fatal(err)
	}
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(title, "Rivulet") {
		t.Errorf("title %q", title)
	}
	mu.Lock()
	for _, c := range complaints {
		t.Error(c)
	}
	mu.Unlock()

	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	colours := map[[3]uint32]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 2 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 2 {
			r, g, b, _ := img.At(x, y).RGBA()
			colours[[3]uint32{r, g, b}] = true
		}
	}
	if len(colours) < 16 {
		t.Errorf("the page has %d colours: nothing was drawn", len(colours))
	}
	if dir := os.Getenv("RIVULET_INTEROP"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "console.png"), shot, 0o600); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d × %d, %d colours; the page says:\n%s", img.Bounds().Dx(), img.Bounds().Dy(), len(colours), text)
}
