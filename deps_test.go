// Package rivulet_test holds the rules that no single package can hold: who may import whom.
package rivulet_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "rivulet"

// layers says what the non-test files of a folder may import of this module, besides what lies below it. A name that ends in
// /... covers what lies below it, an exact name beats it. A folder that is not listed fails the test, so that a new one is
// placed on purpose. Test files may import what they like: they put the layers together.
var layers = []struct {
	folder string
	may    []string
}{
	{"storage/batch", nil},
	{"storage", []string{"storage/batch"}},
	{"plugins", []string{"storage/batch"}},
	{"plugins/asm", nil},
	{"edge", []string{"storage", "plugins", "storage/batch"}},
	{"edge/mqtt/packet", nil},
	{"edge/auth", []string{"edge"}},
	{"edge/gate", nil},
	{"edge/mqtt", []string{"edge", "edge/auth", "edge/gate", "storage/batch"}},
	{"edge/...", []string{"edge", "edge/auth", "edge/gate", "storage/batch"}},
	{"sync/...", []string{"edge", "storage/batch", "sync/compare"}},
	{"cmd/rivulet/config", []string{"storage", "edge", "edge/auth", "edge/gate", "plugins", "sync/..."}},
	{"cmd/rivulet", []string{"storage", "storage/batch", "plugins", "edge", "edge/...", "sync/...", "examples/..."}},
	{"cmd/rivulet-bench/...", []string{"cmd/rivulet-bench/...", "examples/..."}},
	{"interop/...", nil},
	{"examples/...", []string{"plugins/asm"}},
}

// owners says which folders may import a library at all: it is the reason for that folder to be.
var owners = map[string][]string{
	"go.etcd.io/bbolt":                    {"storage"},
	"github.com/pierrec/lz4":              {"storage/..."},
	"github.com/klauspost/compress":       {"storage/..."},
	"github.com/tetratelabs/wazero":       {"plugins"},
	"github.com/twmb/franz-go/pkg/kmsg":   {"edge/kafka", "sync/...", "cmd/..."},
	"github.com/spf13/cobra":              {"cmd/..."},
	"go.yaml.in/yaml":                     {"cmd/..."},
	"github.com/eclipse/paho.mqtt.golang": {"cmd/...", "sync/bridge"},
	"github.com/redpanda-data/redpanda":   {"examples/...", "interop/guests/..."},

	// For tests alone. kfake is an in-process Kafka: nothing that ships may lean on it.
	"github.com/twmb/franz-go/pkg/kfake": {},
	"github.com/eclipse/paho.golang":     {},
	"github.com/mochi-mqtt/server":       {},
	"github.com/chromedp/chromedp":       {},
	"github.com/coder/websocket":         {},
	"github.com/segmentio/kafka-go":      {},
	"github.com/google/go-cmp":           {},
	"github.com/rogpeppe/go-internal":    {},
	"pgregory.net/rapid":                 {},
	"go.uber.org/goleak":                 {},
	"testing":                            {"plugins/plugintest"},

	"C":         {}, // CGO_ENABLED=0 is how it ships
	"math/rand": {}, // math/rand/v2, and passed in
	"log":       {}, // log/slog
}

func TestImports(t *testing.T) {
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, imp := range f.imports {
			if own, ok := strings.CutPrefix(imp, module+"/"); ok {
				may, listed := allowed(f.folder)
				switch {
				case !listed:
					t.Errorf("%s: folder %s has no place in the layers of deps_test.go", f.path, f.folder)
				case !covers([]string{f.folder + "/..."}, own) && !covers(may, own):
					t.Errorf("%s imports %s; %s may import %v only", f.path, own, f.folder, may)
				}
				continue
			}
			if owner, ok := ownersOf(imp); ok && !covers(owner, f.folder) {
				t.Errorf("%s imports %s, which is for %v only", f.path, imp, owner)
			}
		}
	}
}

// The test must be able to fail: each of these lines breaks a rule.
func TestImportRulesBite(t *testing.T) {
	for _, c := range []struct{ folder, imports string }{
		{"storage", "edge"},
		{"storage/batch", "storage"},
		{"plugins", "storage"},
		{"edge", "edge/mqtt"},
		{"edge", "edge/auth"},
		{"edge/auth", "edge/mqtt"},
		{"edge/mqtt", "edge/kafka"},
		{"edge/kafka", "storage"},
		{"sync/mirror", "edge/kafka"},
		{"cmd/rivulet-bench", "edge"},
	} {
		may, ok := allowed(c.folder)
		if !ok || covers(may, c.imports) {
			t.Errorf("%s may import %s (listed: %v)", c.folder, c.imports, ok)
		}
	}
	for _, c := range []struct{ folder, library string }{
		{"sync/mirror", "github.com/twmb/franz-go/pkg/kfake"},
		{"cmd/rivulet", "github.com/twmb/franz-go/pkg/kfake"},
		{"edge", "go.etcd.io/bbolt/errors"},
		{"storage", "github.com/tetratelabs/wazero/api"},
	} {
		owner, ok := ownersOf(c.library)
		if !ok || covers(owner, c.folder) {
			t.Errorf("%s may import %s (listed: %v)", c.folder, c.library, ok)
		}
	}
}

type goFile struct {
	path, folder string
	imports      []string
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		name := d.Name()
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		ast, err := parser.ParseFile(fset, p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := goFile{path: p, folder: path.Dir(p)}
		for _, s := range ast.Imports {
			imp, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imp)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no Go file")
	}
	return files
}

func allowed(folder string) (may []string, listed bool) {
	best := -1
	for _, l := range layers {
		if covers([]string{l.folder}, folder) && len(l.folder) > best {
			best, may, listed = len(l.folder), l.may, true
		}
	}
	// An exact name beats a pattern, however long.
	for _, l := range layers {
		if l.folder == folder {
			return l.may, true
		}
	}
	return may, listed
}

func covers(patterns []string, folder string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		root, below := strings.CutSuffix(p, "/...")
		return folder == root || below && strings.HasPrefix(folder, root+"/")
	})
}

func ownersOf(imp string) (folders []string, listed bool) {
	for p := imp; p != "."; p = path.Dir(p) {
		if folders, ok := owners[p]; ok {
			// math/rand/v2 is another package than math/rand, log/slog than log.
			if p != imp && !strings.Contains(p, ".") {
				return nil, false
			}
			return folders, true
		}
		if p == "/" {
			break
		}
	}
	return nil, false
}
