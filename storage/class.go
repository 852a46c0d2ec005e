package storage

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
)

// maxClasses bounds how many classes are written to: each has a file that is being filled, and every seal costs a commit in each
// class that it touches.
const maxClasses = 16

// class is what decides about when records go: how long they are kept, what a full disk spares, whether somebody else has a copy,
// and whether old ones are thinned out. Records of one class lie in files of their own, so that files become past as a whole.
type class struct {
	bucket    int // index of keepBuckets
	priority  int
	mirrored  bool
	compacted bool
}

// keepBuckets are the bounds of retention.ms that classes tell apart.
var keepBuckets = [...]struct {
	name string
	ms   int64 // at most
}{
	{"1h", 60 * 60 * 1000},
	{"1d", 24 * 60 * 60 * 1000},
	{"8d", 8 * 24 * 60 * 60 * 1000},
	{"32d", 32 * 24 * 60 * 60 * 1000},
	{"long", math.MaxInt64},
}

// defaultBucket is that of Kafka's seven days.
const defaultBucket = 2

func classOf(p Policy, mirrored bool) class {
	c := class{bucket: len(keepBuckets) - 1, priority: p.Priority, mirrored: mirrored, compacted: p.Compact}
	if p.Delete && p.RetentionMs >= 0 {
		for c.bucket = 0; p.RetentionMs > keepBuckets[c.bucket].ms; c.bucket++ {
		}
	}
	return c
}

// name is the class's folder.
func (c class) name() string {
	if c == (class{bucket: defaultBucket}) {
		return defaultClass
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s-p%d", keepBuckets[c.bucket].name, c.priority)
	if c.mirrored {
		b.WriteString("-mirrored")
	}
	if c.compacted {
		b.WriteString("-compact")
	}
	return b.String()
}

// fold makes classes that differ little the same. The higher the level, the more: at 3 there are at most maxClasses.
func (c class) fold(level int) class {
	switch {
	case level == 1:
		c.priority = c.priority / 4 * 4 // 0 to 3, 4 to 7, 8 and 9
	case level >= 2:
		c.priority = 0
	}
	if level >= 3 { // up to 8 days, longer
		c.bucket = max(c.bucket, defaultBucket)
		c.bucket = min(c.bucket, defaultBucket+1)
	}
	return c
}

// foldLevels is how often classes can be folded.
const foldLevels = 4

// classTable says which class each topic is sealed into. The sealer's.
type classTable struct {
	topics []*Topic
	full   []class // of each, before they were folded
	names  map[*Topic]string
}

// mirroredFunc is what SetMirrored was told.
type mirroredFunc = atomic.Pointer[func(topic string) bool]

// SetMirrored tells the store which topics an uplink carries: they lie in files of their own, since a full disk gives up
// what has a copy elsewhere first. It is called on the sealer's goroutine, for each topic at each seal, and must neither block nor
// commit. A topic whose answer changes is sealed into another class from then on.
func (s *Store) SetMirrored(mirrored func(topic string) bool) {
	s.mirrored.Store(&mirrored)
}

// classes returns the classes of all topics, as they are now. It asks anew which are mirrored: an uplink takes a topic up some time
// after it was made, and may be told to leave it.
func (s *Store) classes() map[*Topic]string {
	t, topics, mirrored := &s.classTable, s.topics.Load().sorted, s.mirrored.Load()
	same := t.names != nil && slices.Equal(t.topics, topics)
	if !same {
		t.topics, t.full = topics, make([]class, len(topics))
	}
	for i, topic := range topics {
		c := classOf(topic.Policy, mirrored != nil && *mirrored != nil && (*mirrored)(topic.Name))
		if c != t.full[i] {
			t.full[i], same = c, false
		}
	}
	if !same {
		t.names = foldClasses(topics, t.full)
	}
	return t.names
}

// foldClasses names at most maxClasses classes for topics.
func foldClasses(topics []*Topic, full []class) map[*Topic]string {
	for level := range foldLevels {
		names, used := make(map[*Topic]string, len(topics)), make(map[class]string)
		for i, t := range topics {
			c := full[i].fold(level)
			if used[c] == "" {
				used[c] = c.name()
			}
			names[t] = used[c]
		}
		if len(used) <= maxClasses || level == foldLevels-1 {
			return names
		}
	}
	return nil // not reached
}

const (
	// smallSuffix ends the name of the folder that a class has for what came in small pieces beside large ones.
	smallSuffix = "-small"
	// smallPart is less than what one seal finds of a partition that is not small, in bytes: smaller batches merge to a quarter as many. Of
	// tails that hold little it is an eighth.
	smallPart = mergeAim / 4
)

// splitSmall puts what a class gets of partitions with little into files of its own when others have more: small batches are merged
// by copying the file that they lie in, and what is large would be copied with them for nothing, or else nothing merged.
func splitSmall(byClass map[string][]sealPart, bound int64) {
	for _, class := range slices.Sorted(maps.Keys(byClass)) {
		if len(byClass) >= maxClasses {
			return
		}
		little, much := int64(0), int64(0)
		for _, p := range byClass[class] {
			if p.bytes < bound {
				little += p.bytes
			} else {
				much += p.bytes
			}
		}
		if little == 0 || much < little {
			continue
		}
		var small, large []sealPart
		for _, p := range byClass[class] {
			if p.bytes < bound {
				small = append(small, p)
			} else {
				large = append(large, p)
			}
		}
		byClass[class], byClass[class+smallSuffix] = large, small
	}
}
