package main

import (
	"fmt"

	"rivulet/storage"
)

// progress shows how far long work is, on a terminal only; end finishes the line.
func (p *program) progress(what string) (show storage.Progress, end func()) {
	if !isTerminal(p.stderr) {
		return nil, func() {}
	}
	last := int64(-1)
	show = func(done, total int64) {
		percent := int64(100)
		if total > 0 {
			percent = 100 * done / total
		}
		if percent == last {
			return
		}
		last = percent
		fmt.Fprintf(p.stderr, "\r%s: %s of %s, %d %%", what, bytesText(done), bytesText(total), percent)
	}
	return show, func() {
		if last >= 0 {
			fmt.Fprintln(p.stderr)
		}
	}
}
