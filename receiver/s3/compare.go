package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/store"
)

// loserAge is how old an object must be that lost against another content before it is
// deleted. exactAtOnce is how many objects are compared one by one in memory at a time.
const (
	loserAge    = 24 * time.Hour
	exactAtOnce = 200_000
)

// comparison is what comparing rows with objects found.
type comparison struct {
	receiver.Comparison
	strange string           // a key of another grammar
	strangs int              // how many
	unrowed []receiver.Entry // objects without a row
	losers  []receiver.Entry // objects of another content than the row's
	newest  map[ident.Host]ident.EpisodeID
}

// tally tells whether two sets of objects are the same without holding them.
type tally struct {
	n   int
	sum uint64
}

func (t tally) add(seed maphash.Seed, e receiver.Entry, sign int) tally {
	h := maphash.String(seed, string(e.Episode)+string(e.Digest))
	if sign < 0 {
		h = -h
	}
	return tally{t.n + sign, t.sum + h}
}

// compare compares all rows with all objects, both ways. Memory grows with hosts, not with
// episodes.
func (o Options) compare(ctx context.Context, now time.Time) (*comparison, error) {
	c := &comparison{Comparison: receiver.Comparison{At: now.UTC()}, newest: map[ident.Host]ident.EpisodeID{}}
	seed := maphash.MakeSeed()
	diff, number := map[ident.Host]tally{}, map[ident.Host]int{}
	for x, err := range o.Bucket.List(ctx, root, "") {
		if err != nil {
			return c, err
		}
		e, ok := entryOf(x)
		if !ok {
			c.strangs, c.strange = c.strangs+1, x.Key
			continue
		}
		c.Files++
		number[e.Host]++
		c.newest[e.Host] = max(c.newest[e.Host], e.Episode)
		diff[e.Host] = diff[e.Host].add(seed, e, 1)
	}
	for row, err := range o.Base.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return c, err
		}
		if row.Archived { // its object is gone, and that is right
			diff[row.Host] = diff[row.Host].add(seed, row, 1)
			continue
		}
		c.Rows++
		diff[row.Host] = diff[row.Host].add(seed, row, -1)
	}
	closely, n := map[ident.Host]bool{}, 0
	for h, d := range diff {
		if d == (tally{}) {
			continue
		}
		closely[h] = true
		if n += number[h]; n >= exactAtOnce {
			if err := o.compareClosely(ctx, closely, c); err != nil {
				return c, err
			}
			closely, n = map[ident.Host]bool{}, 0
		}
	}
	return c, o.compareClosely(ctx, closely, c)
}

// compareClosely compares the rows and objects of some hosts one by one.
func (o Options) compareClosely(ctx context.Context, hosts map[ident.Host]bool, c *comparison) error {
	if len(hosts) == 0 {
		return nil
	}
	have := map[receiver.Key][]receiver.Entry{}
	for h := range hosts {
		for x, err := range o.Bucket.List(ctx, prefixOf(h), "") {
			if err != nil {
				return err
			}
			if e, ok := entryOf(x); ok {
				have[e.Key()] = append(have[e.Key()], e)
			}
		}
	}
	rowed := map[receiver.Key]bool{}
	for row, err := range o.Base.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		k := row.Key()
		if !hosts[k.Host] || row.Archived || rowed[k] {
			continue
		}
		rowed[k] = true
		var others []receiver.Entry
		for _, e := range have[k] {
			if e.Digest != row.Digest {
				others = append(others, e)
			}
		}
		if len(others) < len(have[k]) {
			c.losers = append(c.losers, others...)
			continue
		}
		if err := o.lost(ctx, row, c); err != nil {
			return err
		}
	}
	for k, all := range have {
		if !rowed[k] {
			c.unrowed = append(c.unrowed, all...)
		}
	}
	return nil
}

// lost looks again at a row without an object: it may be new, or archived.
func (o Options) lost(ctx context.Context, row receiver.Entry, c *comparison) error {
	_, archived, err := store.Archived(o.FS, o.Dir, row.Key())
	if err != nil || archived {
		return err
	}
	all, err := o.contents(ctx, row.Key())
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Digest == row.Digest {
			return nil
		}
	}
	if c.NoFile++; c.First == "" {
		c.First = fmt.Sprintf("%s/%s", row.Host, row.Episode)
	}
	return nil
}

// checkAll is compare for doctor.
func (e episodes) checkAll(ctx context.Context) (c receiver.Checked, err error) {
	found, err := e.o.compare(ctx, e.o.Now())
	if err != nil {
		return c, Explain(answered(err))
	}
	c = receiver.Checked{Rows: found.Rows, Lost: found.NoFile, Example: found.First}
	for _, x := range found.unrowed {
		if e.o.Now().Sub(x.ReceivedAt) > grace {
			c.Unindexed = fmt.Sprintf("%s has %d objects without a row, such as %s", x.Host, len(found.unrowed), x.Episode)
			break
		}
	}
	return c, nil
}

func (e episodes) archived(k receiver.Key) (receiver.Entry, bool, error) {
	return store.Archived(e.o.FS, e.o.Dir, k)
}

// Compare compares all rows with all objects, appends the rows that are missing, and
// sweeps: objects that lost a day ago, and uploads in parts that were never completed.
func (s *served) Compare(ctx context.Context) (receiver.Comparison, error) {
	c, err := s.o.compare(ctx, s.o.Now())
	if err != nil {
		return c.Comparison, Explain(err)
	}
	s.newest.noteAll(c.newest)
	for _, e := range c.unrowed {
		if s.o.Now().Sub(e.ReceivedAt) <= grace {
			continue // it may be on its way
		}
		adopted, err := s.adopt(ctx, e)
		if err != nil {
			return c.Comparison, Explain(err)
		}
		if adopted {
			c.Repaired++
		}
	}
	if c.strangs > 0 {
		s.o.Log.Warn("objects with unknown names are left alone", "count", c.strangs, "example", c.strange)
	}
	return c.Comparison, Explain(s.sweep(ctx, c.losers))
}

// adopt appends the row of an old object that has none and is its episode's only content.
// An upload in progress has the episode's lock.
func (s *served) adopt(ctx context.Context, e receiver.Entry) (bool, error) {
	k := e.Key()
	defer s.keys.Lock(k)()
	all, err := s.o.contents(ctx, k)
	if err != nil {
		return false, err
	}
	if len(all) != 1 || name(all[0]) != name(e) || len(s.claims.of(k)) > 0 {
		s.o.Log.Warn("objects without a row are left alone", "host", k.Host, "episode", k.Episode, "contents", len(all))
		return false, nil
	}
	if !s.o.Bucket.ChecksDigests() {
		if d, err := s.o.Bucket.Hash(ctx, keyOf(e)); err != nil || d != e.Digest {
			s.o.Log.Warn("an object is not its digest and gets no row", "key", keyOf(e), "digest", d, "err", err)
			return false, nil
		}
	}
	_, err = s.settle(all[0])
	return err == nil, err
}

// sweep deletes what lost, and ends uploads that nobody completes.
func (s *served) sweep(ctx context.Context, losers []receiver.Entry) error {
	for _, e := range losers {
		if s.o.Now().Sub(e.ReceivedAt) < loserAge {
			continue
		}
		if !s.o.Bucket.CanDelete() {
			s.o.Log.Info("objects that lost are left: [store.s3] delete_credentials_file is not set", "count", len(losers))
			break
		}
		if err := s.o.Bucket.Delete(ctx, keyOf(e)); err != nil {
			return err
		}
		s.o.Log.Info("object that lost is deleted", "key", keyOf(e))
	}
	_, err := s.o.Bucket.Abort(ctx, s.o.Now().Add(-loserAge))
	return err
}
