// Package receiver is the receiver's domain: the values that it stores, and the
// interfaces behind which it stores them.
//
// A Backend carries them all. Package local is the backend of today: tarballs and
// *.jsonl files in a data folder. Promises of every backend: what a method returned
// nil for survives a power cut; a row is there as a whole or not at all; nothing that
// is stored is overwritten by another upload. Backends refuse nothing by policy: who
// may store what is decided by their callers. Package backendtest checks the promises.
package receiver

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/pki"
)

// Backend stores a receiver's state. Its parts may be used by many goroutines, and
// read by many processes; each log and document has one writing process.
type Backend struct {
	Name       string // where it is, for messages
	Episodes   Episodes
	Index      Log[Entry]
	Rejections Log[Rejection]
	Alerts     Log[Alert] // its rows bring their own time
	Silences   Log[Silence]
	Docs       Docs
	Spare      Docs // what fleet-check could not write to Docs; nil: none
	Releases   Releases

	// Lease gives this process alone the right to do one kind of work, until it is
	// closed or the process ends. It returns ErrLeased while another process has it.
	Lease func(Work) (io.Closer, error)
	// Serve opens the store for uploads, repairs what a crash left, and opens the logs
	// that serve writes. It returns ErrLeased while another process serves.
	Serve func() (Store, error)
	// Checks judge the storage itself, for doctor: who owns it (empty: not judged), and
	// whether the reserve of so many bytes is free.
	Checks func(owner string, reserve int64) []check.Check
	// Explain adds what is wrong with the storage, and what mends it, to its error.
	Explain func(error) error
	// Since returns when serve first ran; the zero time if it never did.
	Since func() time.Time
	// Observe has a function called after each request to a storage beyond this machine:
	// what was asked, how it ended in one word, and how long it took. Nil: there is none.
	Observe func(func(op, outcome string, took time.Duration))
	// Present returns an error if the backend is not the one that was used last, as
	// when its disk is not mounted.
	Present func() error
}

// Credentials are what serve identifies itself and its callers by. Each is read anew
// when its file changes.
type Credentials struct {
	Pair     *pki.Pair              // serve's certificate; nil behind a proxy
	Trust    *pki.Bundle            // the CA certificates of hosts
	Operator func() (string, error) // the operator token
	// Data returns the digests of the tokens that only read the data, by name; nil: none.
	Data func() (map[string]ident.Digest, error)
}

// Work is what one process at a time may do.
type Work string

// The kinds of work.
const (
	Serving  Work = "serve"
	Checking Work = "fleet-check"
	Moving   Work = "archive"
)

// ErrLeased reports that another process has a lease.
var ErrLeased = errors.New("another process has it")

// OwnerError reports that the storage belongs to another user than this process's.
type OwnerError struct{ Path, Owner, User string }

// Error names both users.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("%s has another owner: it belongs to %s, not to %s", e.Path, e.Owner, e.User)
}

// ErrVanished reports that the backend does not hold the store that was used last.
var ErrVanished = errors.New("the store has vanished")
