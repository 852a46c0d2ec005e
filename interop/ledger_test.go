package interop

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ledger remembers what one source sent, how often, and what was acknowledged. A source's readings are numbered from 0 in the
// order in which they were first sent.
type ledger struct {
	source string
	// exactly: the protocol promises that a reading that is sent again is stored once (an idempotent producer).
	exactly bool

	mu    sync.Mutex
	sent  []uint8 // by number: how often it may be in the log
	acked []bool
}

// entry is one record that was read back.
type entry struct {
	topic     string
	partition int32
	offset    int64
	source    string
	number    int
}

// next numbers a new reading that is about to be sent.
func (l *ledger) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent, l.acked = append(l.sent, 1), append(l.acked, false)
	return len(l.sent) - 1
}

// again notes that a reading is sent once more, or may be.
func (l *ledger) again(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.exactly && l.sent[number] < 255 {
		l.sent[number]++
	}
}

func (l *ledger) ack(numbers ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range numbers {
		l.acked[n] = true
	}
}

func (l *ledger) count() (sent, acked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		if a {
			acked++
		}
	}
	return len(l.sent), acked
}

// reading is the payload of a numbered reading, and parse its reverse.
func reading(b []byte, source string, number, size int) []byte {
	b = append(b, source...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(number), 10)
	b = append(b, ' ')
	for len(b) < size {
		b = append(b, byte('a'+(number+len(b))%26))
	}
	return b
}

func parse(value []byte) (source string, number int, err error) {
	source, rest, ok := strings.Cut(string(value), " ")
	digits, _, ok2 := strings.Cut(rest, " ")
	number, err = strconv.Atoi(digits)
	if !ok || !ok2 || err != nil {
		return "", 0, fmt.Errorf("not a reading: %.60q", value)
	}
	return source, number, nil
}

// check holds a log against the ledgers and returns what is wrong with it. entries are those of each partition in the order in which
// they were read.
func check(ledgers []*ledger, entries []entry) []string {
	var problems []string
	wrong := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }

	type place struct {
		topic     string
		partition int32
	}
	type found struct {
		*ledger
		seen   []uint8
		first  int // the highest number whose first copy was met
		home   place
		homed  bool
		copies []int // numbers in the order of the log
	}
	bySource := map[string]*found{}
	for _, l := range ledgers {
		bySource[l.source] = &found{ledger: l, seen: make([]uint8, len(l.sent)), first: -1}
	}

	ends := map[place]int64{}
	for _, e := range entries {
		at := place{e.topic, e.partition}
		if end, ok := ends[at]; e.offset != end && (ok || e.offset != 0) {
			wrong("%s/%d: offset %d follows %d", e.topic, e.partition, e.offset, end-1)
		}
		ends[at] = e.offset + 1

		f := bySource[e.source]
		if f == nil || e.number < 0 || e.number >= len(f.sent) {
			wrong("%s/%d@%d: nobody sent reading %s %d", e.topic, e.partition, e.offset, e.source, e.number)
			continue
		}
		if !f.homed {
			f.home, f.homed = at, true
		}
		if f.home != at {
			wrong("%s is in %v and in %v", e.source, f.home, at)
		}
		if f.seen[e.number] == 0 {
			if e.number < f.first {
				wrong("swap: %s %d comes after %d", e.source, e.number, f.first)
			}
			f.first = max(f.first, e.number)
		}
		f.seen[e.number]++
		f.copies = append(f.copies, e.number)
	}

	for _, l := range ledgers {
		f := bySource[l.source]
		for n := range l.sent {
			if l.acked[n] && f.seen[n] == 0 {
				wrong("hole: %s %d was acknowledged and is gone", l.source, n)
			}
			if f.seen[n] > l.sent[n] {
				wrong("duplicate: %s %d is there %d times and was sent %d times", l.source, n, f.seen[n], l.sent[n])
			}
		}
		// A source repeats its unacknowledged readings in order and then goes on: the last copies are in order, too.
		last, seen := len(l.sent), make([]bool, len(l.sent))
		for _, n := range slices.Backward(f.copies) {
			if seen[n] {
				continue
			}
			seen[n] = true
			if n > last {
				wrong("swap: the last copy of %s %d comes before that of %d", l.source, n, last)
			}
			last = min(last, n)
		}
	}
	return problems
}
