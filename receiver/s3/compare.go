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

// supersededAge is the age at which a superseded object is deleted. exactAtOnce bounds the
// objects that are compared one by one in memory.
const (
	supersededAge = 24 * time.Hour
	exactAtOnce   = 200_000
)

// comparison is the result of comparing rows with objects.
type comparison struct {
	receiver.Comparison
	unknown    string           // a key with an unknown name
	unknowns   int              // number of such keys
	unindexed  []receiver.Entry // objects without a row
	superseded []receiver.Entry // objects whose content differs from the row's
	lost       []receiver.Key   // rows without their object
	newest     map[ident.Host]ident.EpisodeID
}

func hashOf(seed maphash.Seed, e receiver.Entry) uint64 {
	return maphash.String(seed, string(e.Episode)+string(e.Digest))
}

// compare compares all rows with all objects, both ways. Memory grows with hosts, not with
// episodes.
func (o Options) compare(ctx context.Context, now time.Time) (*comparison, error) {
	c := &comparison{Comparison: receiver.Comparison{At: now.UTC()}, newest: map[ident.Host]ident.EpisodeID{}}
	seed := maphash.MakeSeed()
	diff, number := map[ident.Host]store.Tally{}, map[ident.Host]int{}
	for x, err := range o.Bucket.List(ctx, root, "") {
		if err != nil {
			return c, err
		}
		e, ok := entryOf(x)
		if !ok {
			c.unknowns, c.unknown = c.unknowns+1, x.Key
			continue
		}
		c.Files++
		number[e.Host]++
		c.newest[e.Host] = max(c.newest[e.Host], e.Episode)
		diff[e.Host] = diff[e.Host].Add(hashOf(seed, e))
	}
	for row, err := range o.Base.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return c, err
		}
		if row.Archived { // its object was deleted
			diff[row.Host] = diff[row.Host].Add(hashOf(seed, row))
			continue
		}
		c.Rows++
		diff[row.Host] = diff[row.Host].Remove(hashOf(seed, row))
	}
	closely, n := map[ident.Host]bool{}, 0
	for h, d := range diff {
		if d == (store.Tally{}) {
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
			c.superseded = append(c.superseded, others...)
			continue
		}
		if err := o.lost(ctx, row, c); err != nil {
			return err
		}
	}
	for k, all := range have {
		if !rowed[k] {
			c.unindexed = append(c.unindexed, all...)
		}
	}
	return nil
}

// lost checks a row without an object again: it may be new, or archived.
func (o Options) lost(ctx context.Context, row receiver.Entry, c *comparison) error {
	_, archived, err := o.archived(ctx, row.Key())
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
	c.lost = append(c.lost, row.Key())
	if c.NoFile++; c.First == "" {
		c.First = fmt.Sprintf("%s/%s", row.Host, row.Episode)
	}
	return nil
}

// checkAll compares all rows with all objects, for doctor.
func (e episodes) checkAll(ctx context.Context) (c receiver.Checked, err error) {
	found, err := e.o.compare(ctx, e.o.Now())
	if err != nil {
		return c, Explain(answered(err))
	}
	c = receiver.Checked{Rows: found.Rows, Lost: found.NoFile, Example: found.First}
	for _, x := range found.unindexed {
		if e.o.Now().Sub(x.ReceivedAt) > grace {
			c.Unindexed = fmt.Sprintf("%s has %d objects without a row, such as %s", x.Host, len(found.unindexed), x.Episode)
			break
		}
	}
	return c, nil
}

// Compare compares all rows with all objects, appends missing rows, and sweeps: it deletes
// objects superseded a day ago, and aborts unfinished multipart uploads.
func (s *served) Compare(ctx context.Context) (receiver.Comparison, error) {
	c, err := s.o.compare(ctx, s.o.Now())
	if err != nil {
		return c.Comparison, Explain(err)
	}
	s.newest.addListing(c.newest)
	for _, e := range c.unindexed {
		// A store gives times in seconds.
		if s.o.Now().Sub(e.ReceivedAt) <= grace && !e.ReceivedAt.Before(s.began.Add(-2*time.Second)) {
			continue // its upload may be in progress
		}
		adopted, err := s.adopt(ctx, e)
		if err != nil {
			return c.Comparison, Explain(err)
		}
		if adopted {
			c.Repaired++
		}
	}
	if c.unknowns > 0 {
		s.o.Log.Warn("objects with unknown names are kept", "count", c.unknowns, "example", c.unknown)
	}
	return c.Comparison, Explain(s.sweep(ctx, c.superseded))
}

// adopt appends the row of an old object that has none and is its episode's only content.
// It waits for an upload in progress, which holds the episode's lock.
func (s *served) adopt(ctx context.Context, e receiver.Entry) (bool, error) {
	defer s.keys.Lock(e.Key())()
	if whole, err := s.adoptable(ctx, e); err != nil || !whole {
		return false, err
	}
	_, err := s.settle(e)
	return err == nil, err
}

// adoptable reports whether an object is its episode's only content, and what its name says.
func (s *served) adoptable(ctx context.Context, e receiver.Entry) (bool, error) {
	k := e.Key()
	all, err := s.o.contents(ctx, k)
	if err != nil {
		return false, err
	}
	if len(all) != 1 || name(all[0]) != name(e) || len(s.claims.of(k)) > 0 {
		s.o.Log.Warn("objects without a row are kept", "host", k.Host, "episode", k.Episode, "contents", len(all))
		return false, nil
	}
	if !s.o.Bucket.ChecksDigests() {
		if d, err := s.o.Bucket.Hash(ctx, keyOf(e)); err != nil || d != e.Digest {
			s.o.Log.Warn("object without a row has another digest", "key", keyOf(e), "digest", d, "err", err)
			return false, nil
		}
	}
	return true, nil
}

// sweep deletes superseded objects, and aborts unfinished multipart uploads.
func (s *served) sweep(ctx context.Context, superseded []receiver.Entry) error {
	for _, e := range superseded {
		if s.o.Now().Sub(e.ReceivedAt) < supersededAge {
			continue
		}
		if !s.o.Bucket.CanDelete() {
			s.o.Log.Info("superseded objects are kept: [store.s3] delete_credentials_file is not set", "count", len(superseded))
			break
		}
		if err := s.o.Bucket.Delete(ctx, keyOf(e)); err != nil {
			return err
		}
		s.o.Log.Info("deleted a superseded object", "key", keyOf(e))
	}
	_, err := s.o.Bucket.Abort(ctx, s.o.Now().Add(-supersededAge))
	return err
}
