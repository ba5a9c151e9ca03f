// Package receiver is the receiver's domain: the values that it stores, and the
// interfaces of the storage.
//
// A Backend has all of them. Package local keeps everything in a data folder, package s3 the
// tarballs in an object store. Every backend promises: when a method returns nil, its effect
// survives a power cut; a row exists as a whole or not at all; no upload overwrites
// stored data. Backends have no policy about who may store what: their callers decide.
// Package backendtest checks these promises.
package receiver

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cis490/internal/check"
	"cis490/internal/pki"
)

// Backend stores a receiver's state. Its parts may be used by many goroutines and read by
// many processes. Each log and document has one writing process.
type Backend struct {
	Name       string // its location, for messages
	Episodes   Episodes
	Index      Log[Entry]
	Rows       Rows // the index, if several processes share it; nil: one process has it
	Rejections Log[Rejection]
	Alerts     Log[Alert] // rows have their own time
	Silences   Log[Silence]
	Docs       Docs
	Spare      Docs // documents that fleet-check could not write to Docs; nil: none
	Releases   Releases
	Peers      Peers        // what receivers publish for each other; nil: there is one receiver
	Authority  RecordReader // what all receivers may know of what the authority recorded; nil: it is in files

	// Lease gives this process the exclusive right to one kind of work, until it is closed
	// or the process ends. It returns ErrLeased while another process has the lease.
	Lease func(Work) (io.Closer, error)
	// Serve opens the store for uploads, repairs what a crash left, and opens serve's logs.
	// It returns ErrLeased while another process serves.
	Serve func() (Store, error)
	// Checks returns doctor's checks of the storage: its owner (empty: not judged), its
	// free space compared with the reserve in bytes, and more.
	Checks func(owner string, reserve int64) []check.Check
	// Explain adds the cause and the fix to an error of the storage.
	Explain func(error) error
	// Since returns when serve first ran; the zero time if never.
	Since func() time.Time
	// Observe has a function called after each request to a storage beyond this machine:
	// what was asked, how it ended in one word, and how long it took. Nil: there is none.
	Observe func(func(op, outcome string, took time.Duration))
	// Lag returns how long ago the oldest row of the index was written that its followers do
	// not see yet. Nil: they see each at once.
	Lag func() (time.Duration, error)
	// Present returns an error if the backend is not the one that was used last, as
	// when its disk is not mounted.
	Present func() error
}

// Credentials identify serve and its clients. Each is read again when its file changes.
type Credentials struct {
	Pair  *pki.Pair   // serve's certificate; nil behind a proxy
	Trust *pki.Bundle // the CA certificates of hosts
	// Tokens returns the tokens of people and programs. With an error it returns those that
	// could be read.
	Tokens func() ([]Token, error)
}

// Work is a kind of work that only one process may do at a time.
type Work string

// The kinds of work.
const (
	Serving    Work = "serve"
	Checking   Work = "fleet-check"
	Moving     Work = "archive"
	Rolling    Work = "rollout"
	Scrubbing  Work = "scrub"
	Publishing Work = "authority" // issuing identities, or publishing the files for other receivers
	Standby    Work = "standby"   // taking over the authority next
	Releasing  Work = "releases"  // publishing releases, if the authority's rows are in a database
)

// ErrLeased reports that another process has the lease.
var ErrLeased = errors.New("another process has the lease")

// HeldError reports which receiver has a lease. It is an ErrLeased.
type HeldError struct {
	Work   Work
	Holder string
}

// Error returns the holder.
func (e *HeldError) Error() string { return fmt.Sprintf("%s has the lease of %s", e.Holder, e.Work) }

// Is reports whether the target is ErrLeased.
func (e *HeldError) Is(target error) bool { return target == ErrLeased }

// OwnerError reports that the storage belongs to another user.
type OwnerError struct{ Path, Owner, User string }

// Error returns both users.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("%s has another owner: it belongs to %s, not to %s", e.Path, e.Owner, e.User)
}

// ErrVanished reports that the storage does not have the store that was used last.
var ErrVanished = errors.New("the store has vanished")
