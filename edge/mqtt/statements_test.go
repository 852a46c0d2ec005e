package mqtt

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere names the tests outside TestConformance that prove statements: version and number, folder under edge/mqtt, tests.
func elsewhere() map[string][]string {
	list := map[string][]string{
		"5 3.1.4-2":  {"TestLogin", "TestThrottledLogin"},
		"5 4.1.0-2":  {"TestSessionExpiry"},
		"5 3.1.2-30": {"TestMQTT_4_12_Protocol"}, "5 4.12.0-1": {"TestMQTT_4_12_Protocol"}, "5 4.12.0-4": {"TestMQTT_4_12_Protocol", "TestMQTT_4_12_ScramLogin"},
		"5 4.12.0-2": {"TestMQTT_4_12_ScramLogin"}, "5 4.12.0-5": {"TestMQTT_4_12_ScramLogin"},
		"5 4.12.1-1": {"TestMQTT_4_12_1_ReAuthentication"}, "5 4.12.1-2": {"TestMQTT_4_12_1_ReAuthentication"},
		"3 3.3.5-2": {"TestAuthorize"},
		"3 4.8.0-2": {"TestFullStoreMQTT311"},
	}
	for _, v := range []string{"5 ", "3 "} {
		list[v+"6.0.0-1"] = []string{"listener/TestTextFrameEndsIt"}
		list[v+"6.0.0-2"] = []string{"listener/TestBinaryFramesAreAStream", "listener/TestUnpackHoweverItIsCut"}
		list[v+"6.0.0-4"] = []string{"listener/TestHandshake"}
	}
	return list
}

// statement is one of the specifications'.
type statement struct{ version, number, whose, text string }

func statements(t *testing.T) (list []statement) {
	t.Helper()
	b, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(f) != 4 {
			t.Fatalf("line %q", line)
		}
		list = append(list, statement{f[0], f[1], f[2], f[3]})
	}
	return list
}

// testNames are the top-level tests of the packages here.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	more, err2 := filepath.Glob("listener/*_test.go")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	names := map[string]bool{}
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(b), -1) {
			names[filepath.ToSlash(filepath.Join(filepath.Dir(file), m[1]))] = true
		}
	}
	return names
}

// document is where the table of statements stands; what is above the mark is written by hand.
const (
	document = "../../docs/MQTT.md"
	mark     = "<!-- From here on: RIVULET_UPDATE=1 go test -run Statements ./edge/mqtt -->\n"
)

// table makes the document's table, and says what does not fit together. proven and other are by version and number.
func table(list []statement, proven map[string]int, other map[string][]string, tests map[string]bool) (doc string, wrong []string) {
	proven, other = maps.Clone(proven), maps.Clone(other)
	titles := map[string]string{"5": "5.0", "3": "3.1.1"}
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var b strings.Builder
	version := ""
	for _, s := range list {
		if s.version != version {
			version = s.version
			fmt.Fprintf(&b, "\n## Statements of MQTT %s\n\n| | asks | shown by |\n|---|---|---|\n", titles[version])
		}
		key := s.version + " " + s.number
		var by []string
		if proven[key] > 0 {
			by = append(by, fmt.Sprintf("`TestConformance/%s/MQTT-%s`", titles[s.version], s.number))
		}
		for _, name := range other[key] {
			if !tests[name] {
				fail("%s: there is no test %s", key, name)
			}
			by = append(by, "`"+name+"`")
		}
		text := s.text
		switch {
		case s.whose == "server" && len(by) == 0:
			fail("nothing proves %s: %s", key, s.text)
		case s.whose == "client" && len(by) == 0:
			by = append(by, "the client's")
		case s.whose == "none" && len(by) == 0:
			by, text = append(by, "does not apply: "+s.text), ""
		case s.whose != "server":
			fail("%s is not the server's, but has proofs", key)
		}
		fmt.Fprintf(&b, "| MQTT-%s | %s | %s |\n", s.number, text, strings.Join(by, ", "))
		delete(proven, key)
		delete(other, key)
	}
	for key := range proven {
		fail("a proof of %s, which is no statement", key)
	}
	for key := range other {
		fail("a proof of %s, which is no statement", key)
	}
	return b.String(), wrong
}

// provenHere counts the proofs of TestConformance.
func provenHere() map[string]int {
	proven := map[string]int{}
	for _, p := range proofs() {
		for id := range strings.FieldsSeq(p.v5) {
			proven["5 "+id]++
		}
		for id := range strings.FieldsSeq(p.v3) {
			proven["3 "+id]++
		}
	}
	return proven
}

// TestStatements: each statement that is the server's is proven by a test that exists, and the document says which.
func TestStatements(t *testing.T) {
	doc, wrong := table(statements(t), provenHere(), elsewhere(), testNames(t))
	for _, w := range wrong {
		t.Error(w)
	}
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, old, _ := strings.Cut(string(b), mark)
	if os.Getenv("RIVULET_UPDATE") != "" {
		if err := os.WriteFile(document, []byte(head+mark+doc), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != doc {
		t.Errorf("%s is not up to date: RIVULET_UPDATE=1 go test -run Statements ./edge/mqtt", document)
	}
}

// TestStatementsCheck: the check sees a statement without a proof, proofs of none, and tests that are not there.
func TestStatementsCheck(t *testing.T) {
	good, tests := statements(t), testNames(t)
	full, _ := table(good, provenHere(), elsewhere(), tests)
	for what, fault := range map[string]func(proven map[string]int, other map[string][]string) []statement{
		"no proof":           func(p map[string]int, _ map[string][]string) []statement { delete(p, "5 3.1.0-1"); return good },
		"no proof elsewhere": func(_ map[string]int, o map[string][]string) []statement { delete(o, "3 6.0.0-1"); return good },
		"proof of nothing":   func(p map[string]int, _ map[string][]string) []statement { p["5 9.9.9-9"] = 1; return good },
		"missing test": func(_ map[string]int, o map[string][]string) []statement {
			o["5 6.0.0-1"] = []string{"TestNone"}
			return good
		},
		"missing row": func(map[string]int, map[string][]string) []statement { return good[1:] },
		"a client's":  func(p map[string]int, _ map[string][]string) []statement { p["5 3.1.2-20"] = 1; return good },
	} {
		proven, other := provenHere(), elsewhere()
		list := fault(proven, other)
		if doc, wrong := table(list, proven, other, tests); len(wrong) == 0 && doc == full {
			t.Errorf("%s is not seen", what)
		}
	}
}
