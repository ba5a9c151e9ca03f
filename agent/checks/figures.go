package checks

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// Figures counts the episodes in a data folder while the shipper may be running. It opens
// nothing for writing. An episode that moves meanwhile may count in either state. Missing
// folders are empty.
func Figures(fsys disk.FS, dir string) (wire.Queue, error) {
	var q wire.Queue
	s := &spool.Spool{Options: spool.Options{FS: fsys, Dir: dir}}
	st, err := spool.LoadState(fsys, dir)
	if err != nil {
		return q, err
	}
	q.LastShipped = st.LastShipped
	// The state is saved at intervals, but a receipt with each episode.
	last, ok, err := ledger.Last(fsys, filepath.Join(dir, "shipped", "receipts.jsonl"), "at")
	if err != nil {
		return q, err
	}
	if ok && last.At.After(q.LastShipped) {
		q.LastShipped = last.At
	}
	waiting := map[ident.EpisodeID]bool{}
	packed, err := s.Packed()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return q, err
	}
	for _, id := range packed {
		waiting[id] = true
	}
	found, err := s.Scan(func(id ident.EpisodeID) bool { return waiting[id] })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return q, err
	}
	q.Recording = found.Recording
	for _, id := range found.Whole {
		waiting[id] = true
	}
	for id := range waiting {
		it := s.Describe(id)
		q.Bytes += it.Bytes
		if _, held := st.Holds[it.Commit]; held {
			q.Held++
			continue
		}
		q.Waiting++
		if at := id.Time(); q.Oldest.IsZero() || at.Before(q.Oldest) {
			q.Oldest = at
		}
	}
	aside, err := s.Quarantined()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return q, err
	}
	q.Quarantined = len(aside)
	return q, nil
}

// Unreached returns when the receiver was last unreachable or this host asleep; zero for
// never.
func Unreached(fsys disk.FS, dir string) (time.Time, error) {
	st, err := spool.LoadState(fsys, dir)
	return st.Unreached, err
}

// Stuck returns the shipped or quarantined episodes whose folders could not be moved or
// removed.
func Stuck(fsys disk.FS, dir string) ([]ident.EpisodeID, error) {
	s := &spool.Spool{Options: spool.Options{FS: fsys, Dir: dir}}
	found, err := s.Scan(func(ident.EpisodeID) bool { return false })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found.Stuck, err
}

// Reasons counts the quarantined episodes by reason.
func Reasons(fsys disk.FS, dir string) (map[string]int, error) {
	s := &spool.Spool{Options: spool.Options{FS: fsys, Dir: dir}}
	ids, err := s.Quarantined()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	by := map[string]int{}
	for _, id := range ids {
		r, err := s.ReasonOf(id)
		if err != nil {
			by["without a reason"]++
			continue
		}
		by[string(r.Kind)]++
	}
	return by, err
}
