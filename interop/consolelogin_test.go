//go:build interop

package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The console on a broker that wants a login, in a real Chromium: it asks, says so when the password is wrong, shows what the user may
// see, and asks again after Log out.
func TestConsoleLogin(t *testing.T) {
	dir := t.TempDir()
	hash := exec.CommandContext(t.Context(), binary(t), "user", "hash", "ann")
	hash.Stdin = strings.NewReader("hunter22\n")
	entry, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"users.yaml": "users:\n" + string(entry),
		"r.yaml":     "auth: {users_file: users.yaml, acl: [{allow: all, user: ann}]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := started(t, "--config", filepath.Join(dir, "r.yaml"))

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true))...)
	defer stopBrowser()
	ctx, closeTab := chromedp.NewContext(ctx)
	defer closeTab()

	until := func(condition string) chromedp.Action[chromedp.Void] {
		return chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingTimeout(15*time.Second))
	}
	submit := func(password string) chromedp.Action[chromedp.Void] {
		return chromedp.Evaluate[chromedp.Void](`document.getElementById("login-user").value = "ann";
			document.getElementById("login-password").value = "` + password + `"; document.getElementById("login-form").requestSubmit()`)
	}
	for _, step := range []struct {
		name string
		do   chromedp.Action[chromedp.Void]
	}{
		{"open", chromedp.Navigate("http://" + p.HTTP + "/")},
		{"it asks", until(`document.getElementById("login").open`)},
		{"wrong password", submit("wrong")},
		{"it says so", until(`/wrong/.test(document.getElementById("login-problem").textContent)`)},
		{"right password", submit("hunter22")},
		{"it shows", until(`!document.getElementById("login").open && document.getElementById("link").textContent == "live" && document.getElementById("who").textContent == "ann"`)},
		{"log out", chromedp.Evaluate[chromedp.Void](`document.getElementById("logout").click()`)},
		{"it asks again", until(`document.getElementById("login").open && document.getElementById("who").textContent == ""`)},
	} {
		err := chromedp.Do(ctx, step.do)
		for err != nil && step.name == "it asks again" && ctx.Err() == nil { // Log out loads the page anew
			err = chromedp.Do(ctx, step.do)
		}
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
}
