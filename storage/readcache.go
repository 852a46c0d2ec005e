package storage

import (
	"errors"
	"sync"

	"rivulet/storage/batch"
)

// readCache keeps what readers of frames opened last, batches and directories, so that several that read the same place, and one
// that goes on in small steps, open it once. What was not used for a while goes, and so does what was used longest ago when there is
// too much. What it holds is immutable.
type readCache struct {
	max      int64     // bytes
	decoders sync.Pool // of *batch.Decoder

	mu    sync.Mutex // guards what follows
	size  int64
	items map[cacheKey]*cacheItem
	ring  cacheItem // of all that is complete: next is what was used last
	round uint64    // of age
}

// cacheKey names a batch by its first offset: a sealed one lies in a group, one that is in memory in none. A directory is that of
// its group.
type cacheKey struct {
	group *group
	part  uint32
	base  int64
}

func directoryKey(g *group) cacheKey { return cacheKey{group: g, base: -1} }

// cacheItem is one batch or directory, or one that is being opened.
type cacheItem struct {
	key        cacheKey
	prev, next *cacheItem
	used       uint64 // round
	ready      chan struct{}
	value      any
	size       int64
	err        error
}

func newReadCache(most int64) *readCache {
	c := &readCache{max: most, items: make(map[cacheKey]*cacheItem)}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// opened returns what the cache holds of key, or what open makes of it, which several readers wait for together. size is in bytes.
func opened[T any](c *readCache, key cacheKey, open func() (value T, size int64, err error)) (T, error) {
	c.mu.Lock()
	if it := c.items[key]; it != nil {
		it.used = c.round
		if it.next != nil {
			c.unlink(it)
			c.link(it)
		}
		c.mu.Unlock()
		<-it.ready
		value, _ := it.value.(T)
		return value, it.err
	}
	it := &cacheItem{key: key, ready: make(chan struct{}), err: errOpening}
	c.items[key] = it
	c.mu.Unlock()
	var value T
	defer func() { // a panic goes on, but not before those who wait are told
		c.mu.Lock()
		if it.err != nil {
			delete(c.items, key)
		} else {
			it.used = c.round
			c.link(it)
			c.shrink(c.max)
		}
		c.mu.Unlock()
		close(it.ready)
	}()
	value, it.size, it.err = open()
	it.value = value
	return value, it.err
}

// errOpening is the error of what is being opened: it stays when that ends in a panic.
var errOpening = errors.New("BUG: a batch or directory was not opened")

// openBatch opens a batch, which stays as it is.
func (c *readCache) openBatch(b []byte) (*openBatch, error) {
	dec, ok := c.decoders.Get().(*batch.Decoder)
	if !ok {
		dec = new(batch.Decoder)
	}
	defer c.decoders.Put(dec)
	return openPlain(dec, b)
}

// link puts an item first; with mu held.
func (c *readCache) link(it *cacheItem) {
	it.prev, it.next = &c.ring, c.ring.next
	it.prev.next, it.next.prev = it, it
	c.size += it.size
}

func (c *readCache) unlink(it *cacheItem) {
	it.prev.next, it.next.prev = it.next, it.prev
	it.prev, it.next = nil, nil
	c.size -= it.size
}

// shrink lets go of what was used longest ago; with mu held.
func (c *readCache) shrink(most int64) {
	for c.size > most && c.ring.prev != &c.ring {
		it := c.ring.prev
		c.unlink(it)
		delete(c.items, it.key)
	}
}

// age lets go of what was not used since the call before the last one.
func (c *readCache) age() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	for it := c.ring.prev; it != &c.ring && it.used+1 < c.round; it = c.ring.prev {
		c.unlink(it)
		delete(c.items, it.key)
	}
}

// bytes is what it holds.
func (c *readCache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
