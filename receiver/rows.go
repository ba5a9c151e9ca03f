package receiver

import (
	"context"

	"cis490/internal/ident"
)

// Rows are an index that several processes share. An episode's row decides which content
// the episode has. Of several commits, the first one decides. A method that returns
// ErrUnavailable may have taken effect.
type Rows interface {
	// ID returns the id of the store, the same for all processes.
	ID() (string, error)
	// Find returns the row of an episode that is stored or archived.
	Find(context.Context, Key) (Entry, bool, error)
	// Holders returns those of the hosts that have a row.
	Holders(ctx context.Context, hosts []ident.Host) ([]ident.Host, error)
	// Commit adds the row of a tarball that is durable. It returns the episode's row, which
	// has another digest if another content was first. created reports that this call
	// added the row.
	Commit(context.Context, Entry) (have Entry, created bool, err error)
	// Archive records that tarballs were moved out, at most once for each.
	Archive(context.Context, []Entry) error
	// Lost records that the tarball of a row is missing. Find does not return the episode
	// until its content is committed again.
	Lost(context.Context, Key) error
}
