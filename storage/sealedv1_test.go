package storage

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// directoryV1 encodes a directory as version 1 was, without its checksum.
func directoryV1(upTo uint64, size int64, dir []byte) []byte {
	b := append([]byte{1}, make([]byte, dirHead1-1)...)
	binary.BigEndian.PutUint64(b[1:], upTo)
	binary.BigEndian.PutUint64(b[9:], uint64(size))
	entries := uint32(0)
	err := eachDirEntry(dir, func(e *dirEntry) error {
		entries++
		b = binary.AppendUvarint(b, uint64(e.part))
		b = binary.AppendVarint(b, e.ref.base)
		b = binary.AppendUvarint(b, uint64(e.ref.span))
		b = binary.AppendUvarint(b, uint64(e.ref.records))
		b = binary.AppendVarint(b, e.ref.maxTime)
		b = binary.AppendUvarint(b, uint64(e.ref.pos))
		b = binary.AppendUvarint(b, uint64(e.ref.size))
		b = binary.AppendUvarint(b, uint64(e.ref.raw))
		b = binary.AppendUvarint(b, uint64(len(e.runs)))
		last := uint64(0)
		for i, r := range e.runs {
			d := r.seq - last
			if i == 0 {
				d = upTo - r.seq
			}
			last = r.seq
			b = binary.AppendUvarint(b, d)
			b = binary.AppendUvarint(b, uint64(r.span))
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b[17:], entries)
	return b
}

// directoryV2 makes a directory without labels one of version 2, without its checksum.
func directoryV2(dir []byte) []byte {
	b := append([]byte{2}, dir[1:dirHead2]...)
	return append(b, dir[dirHead:len(dir)-dirTail]...)
}

// toV1 makes the directories of a closed log file such as the first version of the store wrote them.
func toV1(t *testing.T, path string) {
	t.Helper()
	db, err := openLog(path, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		groups := tx.Bucket(groupsBucket)
		var keys []uint64
		if err := eachGroup(groups, func(key uint64) error { keys = append(keys, key); return nil }); err != nil {
			return err
		}
		for _, key := range keys {
			dir := directory(groups, key)
			r, err := readDir(dir)
			if err != nil {
				return err
			}
			old := directoryV1(key, r.dataLen, dir)
			old = binary.BigEndian.AppendUint32(old, crc32.Checksum(old, castagnoli))
			if err := groups.Bucket(chunkKey(key, chunkDir, 0)).Put(chunkValue, old); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A store whose directories are of version 1 is read, and goes on in version 2.
func TestDirectoriesOfVersion1(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	o := Options{Dir: t.TempDir()}
	l := openTestSealed(t, o)
	w := newTailWriter()
	all := make(map[uint32][]tailBatch)
	seal := func() {
		parts := mixed(t, w, rng, 3, 20)
		if err := sealAll(l, w.seq, parts); err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			all[p.id] = append(all[p.id], p.tails...)
		}
	}
	check := func() {
		t.Helper()
		if l.sealedSeq() != w.seq {
			t.Fatalf("sealed up to %d, want %d", l.sealedSeq(), w.seq)
		}
		for id, tails := range all {
			same(t, "content", content(t, l, id), wantTails(t, tails))
		}
		checkFrames(t, l, all)
		checkTimes(t, l, all)
	}
	seal()
	seal()
	path := l.files[defaultClass][0].path
	l.close()
	toV1(t, path)
	l = openTestSealed(t, o)
	if e := l.index(1)[0]; e.newest != noClock {
		t.Fatalf("clock %d from a directory that has none", e.newest)
	}
	check()
	seal()
	check()
	l.close()
	l = openTestSealed(t, o)
	check()
}
