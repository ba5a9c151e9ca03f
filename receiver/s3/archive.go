package s3

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/store"
)

// Archive records that a host's episodes were moved out, and deletes their objects. The
// host's list is durable first, then the rows; the objects are deleted last. Without a key
// that may delete it does nothing.
func (s *served) Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error) {
	s.archiving.Lock()
	defer s.archiving.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, putTimeout)
	defer cancel()
	if !s.o.Bucket.CanDelete() {
		return nil, 0, fmt.Errorf("archive: %w", s.o.Bucket.Delete(ctx, root)) // its error names the missing setting
	}
	var add, again, gone []receiver.Entry // to add to the list; already in it; to delete
	now := s.o.Now().UTC()
	for id, d := range want {
		k := receiver.Key{Host: h, Episode: id}
		defer s.keys.Lock(k)() // no other caller locks two keys
		listed, archived, err := store.Archived(s.o.FS, s.o.Dir, k)
		if err != nil {
			return nil, 0, fmt.Errorf("archive: %w", err)
		}
		e, stored, err := s.lookup(ctx, k)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("archive: %w", err)
		case !stored || e.Digest != d || archived && listed.Digest != d:
			continue
		case archived:
			again = append(again, listed)
			if !e.Archived { // its deletion failed
				gone = append(gone, e)
			}
		default:
			gone = append(gone, e)
			e.ReceivedAt, e.Archived = now, true
			add = append(add, e)
		}
		done = append(done, id)
	}
	slices.SortFunc(add, func(a, b receiver.Entry) int { return strings.Compare(string(a.Episode), string(b.Episode)) })
	if freed, err = s.archive(ctx, h, add, again, gone); err != nil {
		return nil, 0, fmt.Errorf("archive: %w", err)
	}
	return done, freed, nil
}

func (s *served) archive(ctx context.Context, h ident.Host, add, again, gone []receiver.Entry) (freed int64, err error) {
	if len(add)+len(again) == 0 {
		return 0, nil
	}
	// Also if it has all of them: it may not be durable.
	if err := store.ListArchived(s.o.FS, s.o.Dir, h, add); err != nil {
		return 0, err
	}
	rows, err := store.WithoutArchivedRow(s.o.Base.Index, again)
	if err != nil {
		return 0, err
	}
	rows = append(rows, add...)
	if len(rows) > 0 {
		if err := s.o.Base.Index.Append(rows); err != nil {
			return 0, err
		}
	}
	for _, e := range gone {
		if err := s.o.Bucket.Delete(ctx, keyOf(e)); err != nil {
			return 0, answered(err)
		}
	}
	for _, r := range rows {
		freed += r.Size
	}
	return freed, nil
}
