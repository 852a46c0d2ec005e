package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	edgehttp "rivulet/edge/http"
)

// recordFormat prints records as kcat does: text with letters behind a percent sign. The zero value is JSON.
type recordFormat []formatPart

type formatPart struct {
	text string
	verb byte // 0: text
}

const formatVerbs = "vsktpoTh"

func parseFormat(s string) (recordFormat, error) {
	if s == "json" {
		return nil, nil
	}
	s = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`).Replace(s)
	f := recordFormat{}
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			f = append(f, formatPart{text: s})
			break
		}
		if i > 0 {
			f = append(f, formatPart{text: s[:i]})
		}
		if i+1 == len(s) || s[i+1] != '%' && !strings.ContainsRune(formatVerbs, rune(s[i+1])) {
			return nil, usageError("--format: after %% comes one of %s or %%", strings.Join(strings.Split(formatVerbs, ""), ", "))
		}
		if s[i+1] == '%' {
			f = append(f, formatPart{text: "%"})
		} else {
			f = append(f, formatPart{verb: s[i+1]})
		}
		s = s[i+2:]
	}
	if len(f) == 0 || !strings.HasSuffix(f[len(f)-1].text, "\n") {
		f = append(f, formatPart{text: "\n"})
	}
	return f, nil
}

// write prints one record; w keeps its own errors.
func (f recordFormat) write(w *bufio.Writer, topic string, r edgehttp.Record) {
	if f == nil {
		line, err := json.Marshal(struct {
			Topic string `json:"topic"`
			edgehttp.Record
		}{topic, r})
		if err != nil {
			panic("BUG: encode record: " + err.Error())
		}
		_, _ = w.Write(append(line, '\n'))
		return
	}
	for _, p := range f {
		switch p.verb {
		case 0:
			_, _ = w.WriteString(p.text)
		case 'v', 's':
			_, _ = w.Write(r.Value)
		case 'k':
			_, _ = w.Write(r.Key)
		case 't':
			_, _ = w.WriteString(topic)
		case 'p':
			_, _ = fmt.Fprint(w, r.Partition)
		case 'o':
			_, _ = w.WriteString(strconv.FormatInt(r.Offset, 10))
		case 'T':
			_, _ = w.WriteString(strconv.FormatInt(r.Timestamp, 10))
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					_ = w.WriteByte(',')
				}
				_, _ = fmt.Fprintf(w, "%s=%s", h.Key, h.Value)
			}
		}
	}
}
