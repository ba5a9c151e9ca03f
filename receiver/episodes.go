package receiver

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"cis490/internal/ident"
)

// Key names an episode.
type Key struct {
	Host    ident.Host
	Episode ident.EpisodeID
}

// Entry is a row of the index: an episode that was stored, or archived.
type Entry struct {
	V          int             `json:"v"`
	ReceivedAt time.Time       `json:"received_at"`
	Host       ident.Host      `json:"host"`
	Episode    ident.EpisodeID `json:"episode"`
	Digest     ident.Digest    `json:"sha256"`
	Size       int64           `json:"size"`             // bytes
	Commit     ident.Commit    `json:"commit,omitempty"` // empty only if a repair could not find it
	Repaired   bool            `json:"repaired,omitempty"`
	Archived   bool            `json:"archived,omitempty"`
	Clock      time.Time       `json:"clock,omitzero"` // the clock's time, if it was behind the row above
}

// When returns when the row was written: Clock if it is set, otherwise ReceivedAt.
func (e Entry) When() time.Time {
	if !e.Clock.IsZero() {
		return e.Clock
	}
	return e.ReceivedAt
}

// Key returns the episode of the row.
func (e Entry) Key() Key { return Key{e.Host, e.Episode} }

// Upload describes the tarball that a host sends.
type Upload struct {
	Host    ident.Host
	Episode ident.EpisodeID
	Digest  ident.Digest
	Size    int64 // of the body, in bytes
	Commit  ident.Commit
}

// Errors that reject an upload. Store.Receive may return others, of the storage.
var (
	ErrConflict = errors.New("another digest is stored under this episode")
	ErrDigest   = errors.New("body does not match its digest")
	ErrFull     = errors.New("disk is full (its reserve must stay free)")
	ErrBusy     = errors.New("the storage is busy or away")       // later it may succeed by itself
	ErrUnready  = errors.New("the storage rejects this receiver") // until a person mends it
	// ErrUnavailable reports that it is not known whether an operation took effect.
	ErrUnavailable = errors.New("the storage is unavailable")
)

// BodyError is an error from reading an upload's body. It is the sender's or the
// network's, not the storage's.
type BodyError struct{ Err error }

// Error returns the reader's error with its context.
func (e *BodyError) Error() string { return "read body: " + e.Err.Error() }

// Unwrap returns the reader's own error.
func (e *BodyError) Unwrap() error { return e.Err }

// Tarball is the content of a stored episode.
type Tarball interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Episodes reads the stored tarballs, in any process.
type Episodes interface {
	// Open opens a tarball; fs.ErrNotExist if it is archived or was never stored.
	Open(Key) (Tarball, error)
	// OpenRow is Open for a row of the index, which costs less, and reads best from the
	// beginning to the end.
	OpenRow(Entry) (Tarball, error)
	// Holders returns those of the hosts of which any episode was stored.
	Holders(hosts []ident.Host) ([]ident.Host, error)
	// List yields the tarballs of all hosts, one host after the other.
	List(ctx context.Context) iter.Seq2[Stored, error]
	// Check compares rows of the index with tarballs: the newest rows or, with 0, all rows
	// and all tarballs.
	Check(ctx context.Context, newest int, now time.Time) (Checked, error)
	// Free returns how many bytes are free.
	Free() (int64, error)
}

// Stored is a tarball from List.
type Stored struct {
	Key
	Size int64
	At   time.Time // when it was stored
	Err  error     // why it is not a regular tarball, for example a link
}

// Checked is the result of Check.
type Checked struct {
	Rows      int    // compared
	Lost      int    // rows whose tarball is missing or has another size
	Example   string // one of those, as HOST/EPISODE
	Damaged   int    // rows that cannot be decoded
	Unindexed string // a host with more tarballs than rows, and how many of each
}

// Comparison is the result of Store.Compare.
type Comparison struct {
	At       time.Time `json:"at"`
	Rows     int       `json:"rows"`
	Files    int       `json:"files"`
	Repaired int       `json:"repaired"`        // files without a row, which have one now
	NoFile   int       `json:"no_file"`         // rows whose tarball is missing
	First    string    `json:"first,omitempty"` // one of those, as HOST/EPISODE
}

// Store accepts uploads. Only the serving process has one.
type Store interface {
	// ID identifies the store; a restored one has another.
	ID() string
	// Lookup returns the entry of an episode that is stored or archived. The index does not
	// affect it.
	Lookup(ident.Host, ident.EpisodeID) (Entry, bool, error)
	// Receive stores an upload: tarball and row are durable when it returns. It calls
	// admit after the body was read and before the episode becomes visible; an error of
	// admit ends the upload. created is false if another upload of the same content was
	// first. After an error nothing is stored, unless only the row is missing: then the
	// next try finds the tarball.
	Receive(u Upload, body io.Reader, admit func() error) (e Entry, created bool, err error)
	// Archive removes tarballs whose copies the caller vouches for. It returns which are
	// archived now, and the bytes that it freed.
	Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error)
	// Compare compares all rows with all tarballs and appends missing rows.
	Compare(ctx context.Context) (Comparison, error)
	// Conditions returns the unmet conditions for accepting uploads, by trying. A thorough
	// test takes every step of an upload but its row.
	Conditions(thorough bool) []Condition
	// Waiting returns for how long the oldest call has waited for the storage.
	Waiting(now time.Time) time.Duration
	// Close closes the store and the logs, and releases the lease. No call may be in
	// progress.
	Close() error
}

// Importer takes copies of tarballs that have their row.
type Importer interface {
	// Has reports whether a tarball of the row's size and digest is there.
	Has(context.Context, Entry) (bool, error)
	// Import stores a tarball if it is what the row's digest says, and returns when it is
	// durable. It adds no row.
	Import(context.Context, Entry, Tarball) error
}

// Condition is something without which no upload can be taken, and why it is missing.
type Condition struct {
	What string
	Err  error
}
