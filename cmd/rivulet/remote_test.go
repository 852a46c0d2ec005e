package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The owner's socket is taken when nobody says otherwise, and when a broker answers there.
func TestOwnersSocket(t *testing.T) {
	s := testServer(t, nil)
	dead := t.TempDir() // of a broker that was killed
	if err := os.WriteFile(filepath.Join(dead, "admin.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	here := "unix:" + filepath.Join(s.cfg.DataDir, "admin.sock")
	for name, c := range map[string]struct {
		user    string
		environ []string
		want    string
	}{
		"data directory":      {"", []string{"RIVULET_DATA_DIR=" + s.cfg.DataDir}, here},
		"none":                {"", nil, ""}, // there is no ./rivulet-data here
		"no broker":           {"", []string{"RIVULET_DATA_DIR=" + t.TempDir()}, ""},
		"dead broker":         {"", []string{"RIVULET_DATA_DIR=" + dead}, ""},
		"a user":              {"ann", []string{"RIVULET_DATA_DIR=" + s.cfg.DataDir}, ""},
		"a user, environment": {"", []string{"RIVULET_DATA_DIR=" + s.cfg.DataDir, "RIVULET_USER=ann"}, ""},
	} {
		r := &remote{p: &program{environ: c.environ}, user: c.user}
		if got := r.owners(t.Context()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	r := &remote{p: &program{environ: []string{"RIVULET_DATA_DIR=" + s.cfg.DataDir, "RIVULET_SERVER=gw:1"}}}
	if base, socket := r.base(t.Context()); base != "http://gw:1" || socket != "" {
		t.Errorf("who names a server gets %s %s", base, socket)
	}
	r.server = here
	if base, socket := r.base(t.Context()); base != "http://rivulet" || "unix:"+socket != here {
		t.Errorf("who names a socket gets %s %s", base, socket)
	}
}
