// Package storecopy copies the tarballs of a store to another place, while uploads continue,
// and its rows and documents to another ledger.
//
// It reads the index from its beginning, and for each row copies the tarball if the other
// place does not have it. Every copy is compared with the row's digest. Its progress is a
// document, so that the next run continues after an interruption or with new episodes. It
// removes nothing from the old place.
package storecopy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/receiver"
)

// Doc is the document with the progress of a copy.
const Doc = "store-copy.json"

// batch is the number of rows between two saves of the progress.
const batch = 512

// Options describe a copy.
type Options struct {
	From     receiver.Backend
	To       receiver.Importer
	Place    string // of To; a copy to another place starts over
	Archived func(context.Context, receiver.Key) (bool, error)
	Parallel int // tarballs at the same time
	Copied   func(Result)
}

// Result is what a run did.
type Result struct {
	Copied  int    `json:"copied"`
	Bytes   int64  `json:"bytes"`
	There   int    `json:"there"`             // were there already
	Missing int    `json:"missing"`           // rows whose tarball is gone
	Example string `json:"example,omitempty"` // one of those, as HOST/EPISODE
}

type progress struct {
	V     int       `json:"v"`
	Place string    `json:"place"`
	At    time.Time `json:"at"` // all rows before it are copied
}

// Run copies what is not copied yet, and returns what it did, after an error too.
func Run(ctx context.Context, o Options) (Result, error) {
	var r Result
	from, err := begin(o)
	if err != nil {
		return r, err
	}
	var rows []receiver.Entry
	for row, err := range o.From.Index.Since(from) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return r, err
		}
		if row.Archived {
			continue
		}
		if rows = append(rows, row); len(rows) == batch {
			if err := o.copy(ctx, rows, &r); err != nil {
				return r, err
			}
			rows = rows[:0]
		}
	}
	if len(rows) == 0 {
		return r, nil
	}
	return r, o.copy(ctx, rows, &r)
}

func begin(o Options) (time.Time, error) {
	b, err := o.From.Docs.Load(Doc, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	var p progress
	if err == nil && json.Unmarshal(b, &p) == nil && p.V == 1 && p.Place == o.Place {
		return p.At, nil
	}
	return time.Time{}, err
}

// copy copies the tarballs of some rows, and saves the progress.
func (o Options) copy(ctx context.Context, rows []receiver.Entry, r *Result) error {
	outcomes := make([]error, len(rows))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Parallel)
	for i, row := range rows {
		g.Go(func() error {
			outcomes[i] = o.one(gctx, row)
			if err := outcomes[i]; err != nil && !errors.Is(err, fs.ErrNotExist) && !expected(err) {
				return fmt.Errorf("copy %s/%s: %w", row.Host, row.Episode, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, row := range rows {
		switch {
		case outcomes[i] == nil:
			r.Copied, r.Bytes = r.Copied+1, r.Bytes+row.Size
		case errors.Is(outcomes[i], errThere):
			r.There++
		case errors.Is(outcomes[i], errArchived):
		default:
			if r.Missing++; r.Example == "" {
				r.Example = fmt.Sprintf("%s/%s", row.Host, row.Episode)
			}
		}
	}
	b, err := json.Marshal(progress{1, o.Place, rows[len(rows)-1].ReceivedAt})
	if err != nil {
		return err
	}
	if err := o.From.Docs.Save(Doc, b); err != nil {
		return fmt.Errorf("note how far the copy came: %w", err)
	}
	if o.Copied != nil {
		o.Copied(*r)
	}
	return nil
}

// Reasons for which nothing had to be copied.
var (
	errThere    = errors.New("there already")
	errArchived = errors.New("moved out of the store")
)

func expected(err error) bool { return errors.Is(err, errThere) || errors.Is(err, errArchived) }

func (o Options) one(ctx context.Context, row receiver.Entry) error {
	has, err := o.To.Has(ctx, row)
	if err != nil {
		return err
	}
	if has {
		return errThere
	}
	t, err := o.From.Episodes.OpenRow(row)
	if errors.Is(err, fs.ErrNotExist) {
		if archived, err := o.Archived(ctx, row.Key()); archived || err != nil {
			return cmp.Or(err, errArchived)
		}
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	return errors.Join(o.To.Import(ctx, row, t), t.Close())
}
