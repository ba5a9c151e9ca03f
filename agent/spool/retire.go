package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// Row is a line of receipts.jsonl. The last row of an episode holds.
type Row struct {
	At      time.Time       `json:"at"`
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
	Size    int64           `json:"size"` // bytes
	Commit  ident.Commit    `json:"commit,omitempty"`
	Stored  time.Time       `json:"stored_at,omitzero"`
	StoreID string          `json:"store_id"`
	// Packed is the digest of the tarball here, where the receiver has an earlier one
	// of the same content.
	Packed ident.Digest `json:"packed_sha256,omitempty"`
	// Lost: the receiver named by StoreID does not have it (any more), so it goes
	// out again.
	Lost bool `json:"lost,omitempty"`
}

// Acknowledged is a tarball with the receiver's receipt for it.
type Acknowledged struct {
	Tarball Tarball
	Receipt wire.Receipt
}

// Note makes receipts durable. After an error any of them may be; the episodes wait
// and may be sent again, which the receiver answers with the same receipt.
func (s *Spool) Note(batch []Acknowledged) error {
	errs := make([]error, len(batch))
	var wg sync.WaitGroup
	for i, a := range batch {
		wg.Go(func() { // rows that wait together share one sync
			errs[i] = s.receipts.Append(func(at time.Time) any {
				r := Row{
					At: at, Episode: a.Tarball.Episode, Digest: a.Tarball.Digest, Size: a.Tarball.Size, Commit: a.Tarball.Commit,
					Stored: a.Receipt.StoredAt, StoreID: a.Receipt.StoreID,
				}
				if slices.Contains(a.Tarball.Earlier, a.Receipt.Digest) {
					r.Digest, r.Packed = a.Receipt.Digest, a.Tarball.Digest
				}
				return r
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("note receipt: %w", err)
	}
	return nil
}

// Clear moves episodes whose receipts are noted out of outbox and episodes. After an
// error any of them may be where they were, for another call or Recover to move; after
// one that wraps ErrStuck, nothing is left to do but that. The directory leaves with
// one rename: half of it under its own name could be taken for an episode of other
// content.
func (s *Spool) Clear(ids ...ident.EpisodeID) error {
	for _, id := range ids {
		if err := s.move(s.inOutbox(id, wire.TarballSuffix), s.inShipped(id)); err != nil {
			return fmt.Errorf("retire %s: %w", id, err)
		}
	}
	var stuck error
	for _, id := range ids {
		if err := s.removeLeft(id); err != nil { // one of before
			stuck = err
		} else if err := s.move(s.episode(id), s.removing(id)); err != nil {
			stuck = fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
		}
	}
	if err := s.FS.SyncDir(s.shipped()); err != nil {
		return fmt.Errorf("retire: %w", err)
	}
	// Lost, the folders come back, and what lies in shipped/ tells what they are.
	left := s.FS.SyncDir(s.episodes())
	if left != nil {
		stuck = fmt.Errorf("retire: %w: %w", ErrStuck, left)
	}
	for _, id := range ids {
		if err := s.remove(s.inOutbox(id, metaSuffix)); err != nil {
			return fmt.Errorf("retire %s: %w", id, err)
		}
		if left != nil {
			s.left.set(id, true)
			continue
		}
		if err := s.removeLeft(id); err != nil {
			stuck = err
		}
	}
	return stuck
}

// Shipped returns the last row of every episode whose tarball is in shipped/, by
// age. It reads the receipts from their start, which reconciling does once a day.
func (s *Spool) Shipped() ([]Row, error) {
	ids, err := s.ids(s.shipped(), wire.TarballSuffix)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(ids))
	at := make(map[ident.EpisodeID]int, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	err = s.eachRow(func(r Row) {
		if i, ok := at[r.Episode]; ok {
			rows[i] = r
		}
	})
	if err != nil {
		return nil, err
	}
	with := rows[:0]
	for i, r := range rows {
		if r.Episode == "" {
			s.Logger.Warn("tarball in shipped has no receipt", "episode", ids[i], "path", s.inShipped(ids[i]))
			continue
		}
		with = append(with, r)
	}
	return with, nil
}

// PutBack returns a shipped tarball, which the store does not have, to the
// outbox.
func (s *Spool) PutBack(r Row, storeID string) error {
	if !r.Lost {
		err := s.receipts.Append(func(at time.Time) any {
			r.At, r.StoreID, r.Stored, r.Lost = at, storeID, time.Time{}, true
			return r
		})
		if err != nil {
			return fmt.Errorf("note loss: %w", err)
		}
	}
	t := Tarball{Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: r.Commit}
	if r.Packed != "" {
		t.Digest, t.Earlier = r.Packed, []ident.Digest{r.Digest}
	}
	err := s.writeSidecar(t)
	if err != nil {
		return err
	}
	err = errors.Join(s.move(s.inShipped(r.Episode), s.inOutbox(r.Episode, wire.TarballSuffix)),
		s.FS.SyncDir(s.outbox()), s.FS.SyncDir(s.shipped()))
	if err != nil {
		return fmt.Errorf("put %s back into the outbox: %w", r.Episode, err)
	}
	return nil
}

// Prune removes a shipped tarball; the caller has just heard from the receiver
// that it has it. While the episode's folder is stuck the tarball stays, as the sign
// that the folder is not to be shipped.
func (s *Spool) Prune(id ident.EpisodeID) error {
	if disk.Exists(s.FS, s.episode(id)) {
		return nil
	}
	if err := s.remove(s.inShipped(id)); err != nil {
		return fmt.Errorf("prune %s: %w", id, err)
	}
	return nil
}

// someRows is how many receipts of no use are no reason to rewrite the file.
const someRows = 100

// Shorten throws away the receipts of episodes that have left this host, once
// they are the most of them: the file is read at each start and each reconcile,
// which must not cost more from year to year.
func (s *Spool) Shorten() error {
	all, here := 0, 0
	err := s.eachRow(func(r Row) {
		all++
		if s.isHere(r.Episode) {
			here++
		}
	})
	if err != nil || all <= 2*here+someRows {
		return err
	}
	return s.receipts.Keep(func(row ledger.Row) bool {
		var r Row
		return json.Unmarshal(row.Line, &r) == nil && s.isHere(r.Episode)
	})
}

// isHere tells whether an episode's receipt is of use. Those on their way from
// the outbox to shipped/ are found in one of them, in this order.
func (s *Spool) isHere(id ident.EpisodeID) bool {
	return disk.Exists(s.FS, s.episode(id)) || disk.Exists(s.FS, s.inOutbox(id, wire.TarballSuffix)) || disk.Exists(s.FS, s.inShipped(id))
}

func (s *Spool) eachRow(visit func(Row)) error {
	for row, err := range ledger.Rows(s.FS, s.receiptsPath(), "at", time.Time{}) {
		if err != nil {
			return fmt.Errorf("read receipts: %w", err)
		}
		var r Row
		if err := json.Unmarshal(row.Line, &r); err == nil && r.Episode != "" {
			visit(r)
		}
	}
	return nil
}
