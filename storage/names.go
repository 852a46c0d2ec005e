package storage

import (
	"errors"
	"hash/crc32"
	"os"
)

const (
	tmpSuffix        = ".tmp"
	quarantineSuffix = ".quarantined"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
