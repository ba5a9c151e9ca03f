package receiver

import (
	"errors"
	"iter"
	"time"

	"cis490/internal/ident"
)

// Log is an append-only sequence of rows whose times never decrease.
type Log[T any] interface {
	// Append writes rows durably: all of them, or none after an error of the storage. A
	// crash meanwhile may leave the first ones. Append sets each row's time to now or, if
	// the clock is behind the last row, to just after that row.
	Append(rows []T) error
	// Copy is Append for rows of another log, which keep their times. The index copies each row
	// at most once.
	Copy(rows []T) error
	// Since yields the rows at a time or later, oldest first, without reading those
	// before. Rows that cannot be decoded are skipped. After an error the sequence ends.
	Since(from time.Time) iter.Seq2[T, error]
	// Before yields the rows that match a query, newest first. After an error the
	// sequence ends.
	Before(Query) iter.Seq2[Found[T], error]
	// Last returns the time of the newest row; false if there is none.
	Last() (time.Time, bool, error)
	// Follow returns a reader of the rows at a time or later, including future ones.
	Follow(from time.Time) Follower[T]
	// Healthy returns why the next Append would probably fail. It changes nothing, except
	// that it cuts what a crash left of this process's own rows.
	Healthy() error
	// Open prepares for Append and repairs what a crash left. Append calls it if necessary.
	Open() error
	// Close ends Append. Rows that it wrote are durable.
	Close() error
}

// Query selects rows. The zero Query selects all.
type Query struct {
	Host    string
	Episode ident.EpisodeID
	Prefix  string    // of the digest or the commit, in lower-case hex digits
	Until   time.Time // zero: no bound
	Cursor  string    // of a Found, to continue after it; empty: start at the newest row
}

// Found is a row that matches a query, or the progress of a search without a match.
type Found[T any] struct {
	Row    T
	At     time.Time
	Match  bool   // false: only a cursor
	Cursor string // for the rows before this one; empty: none
}

// Follower reads a log as it grows. It is for one goroutine.
type Follower[T any] interface {
	// Read calls add for each row since the last Read. It calls begin before if earlier
	// rows may be gone: at the first Read, and after a log was cut.
	Read(begin func(), add func(T)) error
}

// ErrCursor reports a cursor that is not from this log.
var ErrCursor = errors.New("not a cursor of this log")
