package edge

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"

	"rivulet/storage"
	"rivulet/storage/batch"
)

// Labels are what the log notes of its records for those who look for a few MQTT topics: whole names, and what they begin
// with, up to four levels. It depends on no route, since routes may have changed when a record is read: a record whose name routes
// decide about has the labels of both names that it may have (MQTTName).
func Labels() storage.Labels { return storage.Labels{Scheme: 1, Of: appendLabels} }

// maxLabelLevels is how many levels the longest beginning has that is noted.
const maxLabelLevels = 4

// appendLabels is storage.Labels.Of.
func appendLabels(dst []uint32, topic string, p batch.Payload) []uint32 {
	if Internal(topic) {
		return dst
	}
	key := p.Key()
	name, ok := p.Header(HeaderTopic)
	if ok { // an invalid name is no harm
		dst = appendNameLabels(dst, 0, 0, name)
	}
	if topic == DefaultTopic {
		if !ok || !bytes.Equal(name, key) && !validName(name) {
			dst = appendNameLabels(dst, 0, 0, key)
		}
		return dst
	}
	h := levelHash(0, []byte(topic))
	if len(key) > 0 {
		dst = append(dst, beginsWith(h))
		dst = appendNameLabels(dst, h, 1, key)
	}
	if len(key) == 0 || !validName(key) || len(topic)+1+len(key) > 65535 {
		dst = append(dst, isNamed(h))
	}
	return dst
}

// appendNameLabels adds the labels of a name whose first levels, of which there are some already, have the hash h.
func appendNameLabels(dst []uint32, h uint64, levels int, name []byte) []uint32 {
	for {
		end := bytes.IndexByte(name, '/')
		if end < 0 {
			return append(dst, isNamed(levelHash(h, name)))
		}
		h = levelHash(h, name[:end])
		name = name[end+1:]
		if levels++; levels <= maxLabelLevels {
			dst = append(dst, beginsWith(h))
		}
	}
}

// Multipliers of wyhash (public domain).
const (
	labelMul   = 0xa0761d6478bd642f
	labelWhole = 0xe7037ed1a0b428db
	labelPart  = 0x8ebc6af09c88c6e3
)

// levelHash goes on with one more level. It is part of the scheme: what it gives is on disk.
func levelHash(h uint64, level []byte) uint64 {
	h = mixHash(h, uint64(len(level))+1)
	for len(level) >= 8 {
		h = mixHash(h, binary.LittleEndian.Uint64(level))
		level = level[8:]
	}
	tail := uint64(0)
	for i, c := range level {
		tail |= uint64(c) << (8 * i)
	}
	return mixHash(h, tail)
}

func mixHash(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v^labelMul, labelWhole)
	return hi ^ lo
}

func isNamed(h uint64) uint32    { return uint32(mixHash(h, labelWhole)) }
func beginsWith(h uint64) uint32 { return uint32(mixHash(h, labelPart)) }

// LogQuery is what records of the log some MQTT filters may be about.
type LogQuery = storage.Query

// Query says which records of the log may be delivered for some topic filters; nil for all of them. Of a topic that all says yes
// to, nothing is left out.
func (b *Broker) Query(filters []string, all func(topic string) bool) *LogQuery {
	q := &storage.Query{Labels: make([]uint32, 0, 2*len(filters))}
	firsts := make(map[string]bool, len(filters))
	for _, f := range filters {
		if len(q.Labels) >= maxQueryLabels {
			return nil
		}
		h, levels := uint64(0), 0
		for level, rest, more := strings.Cut(f, "/"); ; level, rest, more = strings.Cut(rest, "/") {
			if level == "+" || level == "#" {
				if levels == 0 {
					return nil
				}
				if level == "#" && levels <= maxLabelLevels { // it is about its parent, too (MQTT-4.7.1-2)
					q.Labels = append(q.Labels, isNamed(h))
				}
				q.Labels = append(q.Labels, beginsWith(h))
				break
			}
			if levels == 0 {
				firsts[level] = true
			}
			if levels == maxLabelLevels && strings.ContainsAny(f, "+#") { // that is as far as they are noted
				q.Labels = append(q.Labels, beginsWith(h))
				break
			}
			h = levelHash(h, []byte(level))
			levels++
			if !more {
				q.Labels = append(q.Labels, isNamed(h))
				break
			}
		}
	}
	q.Topics = func(topic string) storage.Want {
		switch {
		case Internal(topic):
			return storage.WantNone
		case all != nil && all(topic) || strings.HasPrefix(topic, recoveredPrefix): // whose name was another one when it was sealed
			return storage.WantAll
		case topic == DefaultTopic || firsts[topic] || b.routes.Load().writesTo(topic):
			return storage.WantLabels
		}
		return storage.WantNone // its records are named TOPIC or TOPIC/KEY
	}
	return q
}

const (
	maxQueryLabels = 256
	// recoveredPrefix begins the names that the store gives to topics whose own names it lost.
	recoveredPrefix = "recovered-"
)
