package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"rivulet/cmd/rivulet/config"
)

// links are ways to other brokers that run: uplinks, or bridges. start, replace and stop are called by one goroutine at a time, the other
// methods by any.
type links[T any] struct {
	run  func(ctx context.Context, name string, it T)
	list atomic.Pointer[[]*link[T]]
}

type link[T any] struct {
	wanted[T]
	it    T
	end   context.CancelFunc
	ended chan struct{}
}

// wanted is a link that the configuration asks for.
type wanted[T any] struct {
	name  string
	print string // of its configuration and of the files that it names: as long as it is the same, so is the link
	open  func() (T, error)
}

// all are the links that run.
func (ls *links[T]) all() []T {
	var all []T
	for _, l := range ls.running() {
		all = append(all, l.it)
	}
	return all
}

func (ls *links[T]) running() []*link[T] {
	if list := ls.list.Load(); list != nil {
		return *list
	}
	return nil
}

// with does something with the link of a name, and reports whether there is one.
func (ls *links[T]) with(name string, do func(T)) bool {
	for _, l := range ls.running() {
		if l.name == name {
			do(l.it)
			return true
		}
	}
	return false
}

// replace ends the links that are not wanted as they are, and starts those that are wanted and do not run. A link that goes on is not touched;
// one that changed has ended before it starts anew, since both would be the same one for the other side. Until then the old one says what it
// still holds. It reports whether anything changed; an error is of links that could not be opened, and the others run.
func (ls *links[T]) replace(want []wanted[T]) (changed bool, err error) {
	stay := map[string]*link[T]{}
	var leave []*link[T]
	for _, l := range ls.running() {
		stays := false
		for _, w := range want {
			stays = stays || w.name == l.name && w.print == l.print
		}
		if stays {
			stay[l.name] = l
		} else {
			leave = append(leave, l)
			l.end()
		}
	}
	for _, l := range leave {
		<-l.ended
	}
	var list, fresh []*link[T]
	var errs []error
	for _, w := range want {
		l := stay[w.name]
		if l == nil {
			it, e := w.open()
			if e != nil {
				errs = append(errs, e)
				continue
			}
			l = &link[T]{wanted: w, it: it, ended: make(chan struct{})}
			fresh = append(fresh, l)
		}
		list = append(list, l)
	}
	for _, l := range fresh {
		ctx, cancel := context.WithCancel(context.Background())
		l.end = cancel
		go func() {
			defer close(l.ended)
			ls.run(ctx, l.name, l.it)
		}()
	}
	ls.list.Store(&list)
	return len(leave)+len(fresh) > 0, errors.Join(errs...)
}

// stop ends all links. They can still be asked.
func (ls *links[T]) stop() {
	for _, l := range ls.running() {
		l.end()
	}
	for _, l := range ls.running() {
		<-l.ended
	}
}

// printOf is the digest of a configuration and of the files of its TLS. Passwords are read again at every login.
func printOf(c any, t *config.ClientTLS) (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	h := sha256.New()
	h.Write(text)
	if t != nil {
		for _, name := range []string{t.CA, t.Cert, t.Key} {
			if name == "" {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return "", fmt.Errorf("load certificates: %w", err)
			}
			sum := sha256.Sum256(data)
			h.Write(sum[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
