package s3

import (
	"context"
	"fmt"
	"io"

	"cis490/internal/ident"
	"cis490/receiver"
)

// shared is an open store whose rows several receivers share. It needs no claims: an object
// without a row is not stored, and what the bucket has of an episode does not matter to an
// upload. The object is sent first; then the row decides.
type shared struct {
	*served
	rows receiver.Rows
}

// supersededNamed is how many superseded objects the log names.
const supersededNamed = 100

func (o Options) share(s *served) (receiver.Store, error) {
	s.claims = &claims{}
	s.begin()
	return &shared{s, o.Base.Rows}, nil
}

// Lookup returns the row of an episode.
func (s *shared) Lookup(h ident.Host, id ident.EpisodeID) (receiver.Entry, bool, error) {
	return s.rows.Find(s.ctx, receiver.Key{Host: h, Episode: id})
}

// Receive spools, admits and sends an upload, and commits its row.
func (s *shared) Receive(u receiver.Upload, body io.Reader, admit func() error) (receiver.Entry, bool, error) {
	return s.take(u, body, admit, s.put)
}

func (s *shared) put(ctx context.Context, e receiver.Entry, sp *spooled) (have receiver.Entry, created, sent bool, err error) {
	have, found, err := s.rows.Find(ctx, e.Key()) // it may be stored meanwhile
	if err == nil && !found {
		if err = s.upload(ctx, e, sp); err == nil {
			sent = true
			have, created, err = s.rows.Commit(ctx, e)
		}
	}
	if err != nil {
		return e, false, sent, err
	}
	if have.Digest != e.Digest {
		err = receiver.ErrConflict
	}
	return have, created, sent, err
}

// Archive records that a host's episodes were moved out, and then deletes their objects.
func (s *shared) Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error) {
	s.archiving.Lock()
	defer s.archiving.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, putTimeout)
	defer cancel()
	if !s.o.Bucket.CanDelete() {
		return nil, 0, fmt.Errorf("archive: %w", s.o.Bucket.Delete(ctx, root)) // its error names the missing setting
	}
	var gone []receiver.Entry
	for id, d := range want {
		e, found, err := s.rows.Find(ctx, receiver.Key{Host: h, Episode: id})
		if err != nil {
			return nil, 0, fmt.Errorf("archive: %w", err)
		}
		if !found || e.Digest != d {
			continue
		}
		gone, done = append(gone, e), append(done, id)
		if !e.Archived {
			freed += e.Size
		}
	}
	if err := s.rows.Archive(ctx, gone); err != nil {
		return nil, 0, fmt.Errorf("archive: %w", err)
	}
	for _, e := range gone {
		if err := s.o.Bucket.Delete(ctx, keyOf(e)); err != nil {
			return nil, 0, fmt.Errorf("archive: %w", answered(err))
		}
	}
	return done, freed, nil
}

// Compare compares all rows with all objects, adds rows that a failover lost, and records rows
// whose objects are missing, so that their hosts send them again. It deletes nothing: the
// database may have lost the row of an object that was acknowledged.
func (s *shared) Compare(ctx context.Context) (receiver.Comparison, error) {
	c, err := s.o.compare(ctx, s.o.Now())
	if err != nil {
		return c.Comparison, Explain(err)
	}
	for _, k := range c.lost {
		if err := s.rows.Lost(ctx, k); err != nil {
			return c.Comparison, err
		}
		s.o.Log.Error("the object of a row is missing", "host", k.Host, "episode", k.Episode)
	}
	for _, e := range c.unindexed {
		if s.o.Now().Sub(e.ReceivedAt) <= grace {
			continue // its upload may be in progress
		}
		whole, err := s.adoptable(ctx, e)
		if err != nil || !whole {
			if err != nil {
				return c.Comparison, Explain(err)
			}
			continue
		}
		e.Repaired = true
		_, created, err := s.rows.Commit(ctx, e)
		if err != nil {
			return c.Comparison, err
		}
		if created {
			c.Repaired++
		}
	}
	if c.unknowns > 0 {
		s.o.Log.Warn("objects with unknown names are kept", "count", c.unknowns, "example", c.unknown)
	}
	for _, e := range c.superseded[:min(len(c.superseded), supersededNamed)] { // both may have been acknowledged, around a failover
		s.o.Log.Warn("an object with another content than its row is kept", "key", keyOf(e), "all", len(c.superseded))
	}
	_, err = s.o.Bucket.Abort(ctx, s.o.Now().Add(-supersededAge))
	return c.Comparison, Explain(err)
}
