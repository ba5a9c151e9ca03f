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
	Clock      time.Time       `json:"clock,omitzero"` // what the clock said, if it was behind the row above
}

// When returns when the row was written, which is before ReceivedAt if the clock was
// behind the row above.
func (e Entry) When() time.Time {
	if !e.Clock.IsZero() {
		return e.Clock
	}
	return e.ReceivedAt
}

// Key returns which episode the row is about.
func (e Entry) Key() Key { return Key{e.Host, e.Episode} }

// Upload describes the tarball that a host sends.
type Upload struct {
	Host    ident.Host
	Episode ident.EpisodeID
	Digest  ident.Digest
	Size    int64 // bytes; the body must have exactly that many
	Commit  ident.Commit
}

// Errors that reject an upload, beside those of the storage itself.
var (
	ErrConflict = errors.New("another digest is stored under this episode")
	ErrDigest   = errors.New("body does not match its digest")
	ErrFull     = errors.New("disk is full (a reserve is kept)")
	ErrBusy     = errors.New("the storage is busy or away")       // later it may succeed by itself
	ErrUnready  = errors.New("the storage rejects this receiver") // until a person mends it
)

// BodyError is a failure to read an upload's body, which is the sender's or the
// network's and not the storage's.
type BodyError struct{ Err error }

// Error returns what was wrong with the body.
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
	// HasAny reports whether any episode of a host was stored.
	HasAny(ident.Host) (bool, error)
	// List yields the tarballs of all hosts, host by host.
	List(ctx context.Context) iter.Seq2[Stored, error]
	// Check compares rows of the index with tarballs: the newest ones, or with 0 all,
	// both ways.
	Check(ctx context.Context, newest int, now time.Time) (Checked, error)
	// Free returns how many bytes are free.
	Free() (int64, error)
}

// Stored is a tarball that was listed.
type Stored struct {
	Key
	Size int64
	At   time.Time // when it was stored
	Err  error     // why it is not a tarball of the store, such as a link in its place
}

// Checked is what a comparison of rows with tarballs found.
type Checked struct {
	Rows      int    // compared
	Lost      int    // rows whose tarball is gone or has another size
	Example   string // one of those, as HOST/EPISODE
	Damaged   int    // rows that cannot be decoded
	Unindexed string // a host with more tarballs than rows, and how many of each
}

// Comparison is what the comparison of all rows with all tarballs by serve found.
type Comparison struct {
	At       time.Time `json:"at"`
	Rows     int       `json:"rows"`
	Files    int       `json:"files"`
	Repaired int       `json:"repaired"`        // files that lacked their row and have it now
	NoFile   int       `json:"no_file"`         // rows whose tarball is gone
	First    string    `json:"first,omitempty"` // one of those, as HOST/EPISODE
}

// Store takes uploads. Who has it is the only process that serves.
type Store interface {
	// ID tells this store from one that was restored.
	ID() string
	// Lookup returns what is stored of an episode, archived ones included. It answers
	// from what decides, never from history.
	Lookup(ident.Host, ident.EpisodeID) (Entry, bool, error)
	// Receive stores an upload: tarball and row are durable when it returns. It calls
	// admit after the body was read and before the episode becomes visible; an error of
	// admit ends the upload. created is false if another upload of the same content was
	// first. After an error nothing is stored, unless only the row is missing: then the
	// next try finds the tarball.
	Receive(u Upload, body io.Reader, admit func() error) (e Entry, created bool, err error)
	// Archive removes tarballs whose copies the caller vouches for, and returns which
	// are archived now and how many bytes that freed.
	Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error)
	// Compare compares all rows with all tarballs and appends the rows that are missing.
	Compare(ctx context.Context) (Comparison, error)
	// Conditions returns what keeps it from taking uploads, by trying. A thorough trial
	// takes every step of an upload but its row.
	Conditions(thorough bool) []Condition
	// Waiting returns for how long the oldest call has waited for the storage.
	Waiting(now time.Time) time.Duration
	// Close closes the store and the logs, and gives up the lease; no call may be under way.
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
