package storage

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// keyedChunk is one chunk on its way into a file.
type keyedChunk struct{ key, value []byte }

// putChunks writes chunks in one transaction; it returns the bytes of the file's pages and of those that it wrote.
func putChunks(db *bolt.DB, chunks []keyedChunk) (used int64, written uint64, err error) {
	var stats bolt.TxStats
	err = updateBolt(db, func(tx *bolt.Tx) error {
		groups := tx.Bucket(groupsBucket)
		if groups == nil {
			return fmt.Errorf("%w: no groups", ErrCorrupt)
		}
		groups.FillPercent = 1 // keys ascend
		for _, c := range chunks {
			b, err := groups.CreateBucket(c.key)
			if err != nil {
				return err
			}
			b.FillPercent = 1
			if err := b.Put(chunkValue, c.value); err != nil {
				return err
			}
		}
		tx.OnCommit(func() { stats = tx.Stats() })
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	err = viewBolt(db, func(tx *bolt.Tx) error {
		used = tx.Size()
		return nil
	})
	return used, uint64(stats.GetPageAlloc()) + pageSize, err
}
