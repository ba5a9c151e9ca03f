package export

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/sync/errgroup"

	"cis490/internal/episode"
	"cis490/receiver/catalogue"
)

// ReadAlone reads all episodes of a source on all cores, and drops their rows.
func ReadAlone(ctx context.Context, s Source) error {
	var g errgroup.Group
	work := make(chan catalogue.Row)
	for range runtime.GOMAXPROCS(0) {
		r, err := newReader(episode.FormatLimits())
		if err != nil {
			return err
		}
		g.Go(func() (err error) {
			for row := range work {
				f, opening := s.Open(ctx, row)
				if opening == nil {
					_, opening = r.read(f, row, nowhere{})
					opening = errors.Join(opening, f.Close())
				}
				err = errors.Join(err, opening)
			}
			return err
		})
	}
	for row, err := range s.Rows(ctx, catalogue.Query{}) {
		if err != nil {
			return err
		}
		work <- row
	}
	close(work)
	return g.Wait()
}

// Counters returns the columns of each table that have a rate.
func Counters() map[string][]string {
	all := map[string][]string{}
	for _, f := range allFormats() {
		for _, l := range f.levels {
			names := []string{}
			for i, leaf := range l.leaves {
				if leaf.counter {
					names = append(names, l.table.columns[l.first+i].name)
				}
			}
			all[l.table.name] = names
		}
	}
	return all
}
