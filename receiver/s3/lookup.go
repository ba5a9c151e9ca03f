package s3

import (
	"context"
	"fmt"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/objects"
	"cis490/receiver/store"
)

// mostContents bounds the contents of one episode that are listed.
const mostContents = 16

// lookupTimeout bounds a lookup with all its tries, because the host waits for it.
const lookupTimeout = 30 * time.Second

// Lookup returns the entry of a stored or archived episode. It first resolves claims that a
// failure or a crash left.
func (s *served) Lookup(h ident.Host, id ident.EpisodeID) (receiver.Entry, bool, error) {
	if err := s.state.err(); err != nil {
		return receiver.Entry{}, false, answered(err)
	}
	k := receiver.Key{Host: h, Episode: id}
	defer s.keys.Lock(k)()
	ctx, cancel := context.WithTimeout(s.ctx, lookupTimeout)
	defer cancel()
	return s.lookup(ctx, k)
}

// lookup is Lookup for a caller that has the episode's lock.
func (s *served) lookup(ctx context.Context, k receiver.Key) (e receiver.Entry, found bool, err error) {
	var all []receiver.Entry
	if !s.newest.isNew(k) {
		if all, err = s.o.contents(ctx, k); err != nil {
			s.state.note(err)
			return e, false, fmt.Errorf("look up episode: %w", answered(err))
		}
	}
	claimed := map[string]bool{}
	for _, c := range s.claims.of(k) {
		claimed[name(c.Entry)] = true
	}
	var rowed, landed []receiver.Entry
	for _, x := range all {
		if claimed[name(x)] {
			landed = append(landed, x)
		} else {
			rowed = append(rowed, x)
		}
	}
	switch {
	case len(rowed) == 1:
		return rowed[0], true, nil
	case len(rowed) > 1: // the index decides
		return s.o.fromIndex(k, rowed)
	}
	if e, found, err = store.Archived(s.o.FS, s.o.Dir, k); err != nil || found {
		return e, found, err
	}
	if len(landed) == 0 {
		return e, false, nil
	}
	e, err = s.settle(landed[0])
	return e, err == nil, err
}

// settle appends the missing row of an object.
func (s *served) settle(e receiver.Entry) (receiver.Entry, error) {
	e.Repaired = true
	rows := []receiver.Entry{e}
	if err := s.o.Base.Index.Append(rows); err != nil {
		return e, fmt.Errorf("index episode: %w", err)
	}
	s.o.Log.Info("row repaired", "host", e.Host, "episode", e.Episode)
	return rows[0], s.claims.drop(e)
}

// contents lists an episode's contents in the bucket.
func (o Options) contents(ctx context.Context, k receiver.Key) ([]receiver.Entry, error) {
	all, err := o.Bucket.Few(ctx, contents(k), mostContents)
	if err != nil {
		return nil, err
	}
	var found []receiver.Entry
	for _, x := range all {
		if e, ok := entryOf(x); ok {
			found = append(found, e)
		}
	}
	return found, nil
}

// entryOf returns the entry of a listed object; ok is false for unknown names.
func entryOf(x objects.Object) (e receiver.Entry, ok bool) {
	e, ok = parseKey(x.Key)
	e.Size, e.ReceivedAt = x.Size, x.At.UTC()
	return e, ok
}

// fromIndex returns the content of an episode that has the row. An episode without a row
// is not stored: the host's next upload decides its content.
func (o Options) fromIndex(k receiver.Key, all []receiver.Entry) (receiver.Entry, bool, error) {
	for f, err := range o.Base.Index.Before(receiver.Query{Host: string(k.Host), Episode: k.Episode}) {
		if err != nil {
			return receiver.Entry{}, false, fmt.Errorf("look up episode: %w", err)
		}
		if !f.Match {
			continue
		}
		for _, e := range all {
			if e.Digest == f.Row.Digest {
				return e, true, nil
			}
		}
	}
	return receiver.Entry{}, false, nil
}
