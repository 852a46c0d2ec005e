package mqtt

import (
	"fmt"
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

// TestStatements: each statement that is the server's is proven by a test that exists, and the document says which.
func TestStatements(t *testing.T) {
	proven := map[string]int{}
	for _, p := range proofs() {
		for id := range strings.FieldsSeq(p.v5) {
			proven["5 "+id]++
		}
		for id := range strings.FieldsSeq(p.v3) {
			proven["3 "+id]++
		}
	}
	other, tests := elsewhere(), testNames(t)
	var doc strings.Builder
	version := ""
	for _, s := range statements(t) {
		if s.version != version {
			version = s.version
			title := map[string]string{"5": "5.0", "3": "3.1.1"}[version]
			fmt.Fprintf(&doc, "\n## Statements of MQTT %s\n\n| | asks | shown by |\n|---|---|---|\n", title)
		}
		key := s.version + " " + s.number
		var by []string
		if proven[key] > 0 {
			by = append(by, fmt.Sprintf("`TestConformance/%s/MQTT-%s`", map[string]string{"5": "5.0", "3": "3.1.1"}[s.version], s.number))
		}
		for _, name := range other[key] {
			if !tests[name] {
				t.Errorf("%s: there is no test %s", key, name)
			}
			by = append(by, "`"+name+"`")
		}
		text := s.text
		switch {
		case s.whose == "server" && len(by) == 0:
			t.Errorf("nothing proves %s: %s", key, s.text)
		case s.whose == "client" && len(by) == 0:
			by = append(by, "the client's")
		case s.whose == "none" && len(by) == 0:
			by, text = append(by, "does not apply: "+s.text), ""
		case s.whose != "server":
			t.Errorf("%s is not the server's, but has proofs", key)
		}
		fmt.Fprintf(&doc, "| MQTT-%s | %s | %s |\n", s.number, text, strings.Join(by, ", "))
		delete(proven, key)
		delete(other, key)
	}
	for key := range proven {
		t.Errorf("a proof of %s, which is no statement", key)
	}
	for key := range other {
		t.Errorf("a proof of %s, which is no statement", key)
	}
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, table, _ := strings.Cut(string(b), mark)
	if os.Getenv("RIVULET_UPDATE") != "" {
		if err := os.WriteFile(document, []byte(head+mark+doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != doc.String() {
		t.Errorf("%s is not up to date: RIVULET_UPDATE=1 go test -run Statements ./edge/mqtt", document)
	}
}
