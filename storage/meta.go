package storage

// metaDB is meta.db: the checkpoint of the key-value space. Only the checkpointer writes.
type metaDB struct{}

// openMeta opens or makes meta.db (created as .tmp, renamed, folder synced). A damaged file is quarantined: that is an error
// that names the file and the command to run.
func openMeta(o Options) (*metaDB, error) { panic("stub") }

// appliedSeq is the frame up to which the file holds everything.
func (m *metaDB) appliedSeq() uint64 { panic("stub") }

// apply writes puts and seq in one transaction. On an error nothing may be assumed; call again.
func (m *metaDB) apply(seq uint64, puts []Put) error { panic("stub") }

func (m *metaDB) get(space, key string) ([]byte, error) { panic("stub") }
func (m *metaDB) scan(space, prefix string, fn func(key string, value []byte) bool) error {
	panic("stub")
}
func (m *metaDB) close() error { panic("stub") }
