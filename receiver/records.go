package receiver

import "io"

// Record is a row of one of the authority's files. A file whose name ends in .jsonl has all its
// rows as lines; another one is its last row.
type Record struct {
	ID         int64 // grows in the order of commits
	File, Line string
}

// RecordReader reads what the authority recorded, if that is in a database.
type RecordReader interface {
	// Since returns rows after one, oldest first: at most a page, and none at the end.
	Since(id int64) ([]Record, error)
}

// Records are what the authority recorded, in a database. The files are copies of it. Only the
// process that has the lease of the authority can append.
type Records interface {
	RecordReader
	// Append adds rows durably: all of them or none. Without the lease it returns ErrLeased.
	// After another error the rows may be there.
	Append([]Record) error
	// Lease takes the lease of the authority (Publishing), or of the machine that takes over
	// next (Standby).
	Lease(Work) (io.Closer, error)
	// Holds returns ErrLeased if this process does not have the lease of the authority.
	Holds() error
	// Alone returns an error if another machine has the authority in its files.
	Alone() error
	// Leases returns which machine has which of these leases.
	Leases() (map[Work]string, error)
}
