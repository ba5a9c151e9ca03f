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

// Row is a line of receipts.jsonl. An episode's last row counts.
type Row struct {
	At      time.Time       `json:"at"`
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
	Size    int64           `json:"size"` // bytes
	Commit  ident.Commit    `json:"commit,omitempty"`
	Stored  time.Time       `json:"stored_at,omitzero"`
	StoreID string          `json:"store_id"`
	// Packed is the digest of the local tarball, where the receiver has an earlier one with
	// the same content.
	Packed ident.Digest `json:"packed_sha256,omitempty"`
	// Lost means that the store StoreID does not have the episode (any more), so it is sent
	// again.
	Lost bool `json:"lost,omitempty"`
}

// Acknowledged is a tarball with its receipt.
type Acknowledged struct {
	Tarball Tarball
	Receipt wire.Receipt
}

// SaveReceipts makes receipts durable. After an error any of them may be durable; the
// episodes may be sent again, and get the same receipt.
func (s *Spool) SaveReceipts(batch []Acknowledged) error {
	errs := make([]error, len(batch))
	var wg sync.WaitGroup
	for i, a := range batch {
		wg.Go(func() { // concurrent appends share one sync
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
		return fmt.Errorf("save receipt: %w", err)
	}
	return nil
}

// Clear moves episodes with durable receipts out of outbox/ and episodes/. After an error
// any of them may still be there, for another call or Recover; after one that wraps
// ErrStuck, only their folders are. One rename moves a folder, because half a folder under
// its name could be mistaken for another episode.
func (s *Spool) Clear(ids ...ident.EpisodeID) error {
	for _, id := range ids {
		if err := s.move(s.inOutbox(id, wire.TarballSuffix), s.inShipped(id)); err != nil {
			return fmt.Errorf("retire %s: %w", id, err)
		}
	}
	var stuck error
	for _, id := range ids {
		if err := s.removeLeft(id); err != nil { // left by an earlier attempt
			stuck = err
		} else if err := s.move(s.episode(id), s.removing(id)); err != nil {
			stuck = fmt.Errorf("move %s: %w: %w", s.episode(id), ErrStuck, err)
		}
	}
	if err := s.FS.SyncDir(s.shipped()); err != nil {
		return fmt.Errorf("retire: %w", err)
	}
	// If the sync is lost the folders reappear, and the tarballs in shipped/ identify them.
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

// Shipped returns the last row of every episode whose tarball is in shipped/, oldest first.
// It reads all receipts, which only the daily reconcile needs.
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

// PutBack returns a shipped tarball that the store lacks to the outbox.
func (s *Spool) PutBack(r Row, storeID string) error {
	if !r.Lost {
		err := s.receipts.Append(func(at time.Time) any {
			r.At, r.StoreID, r.Stored, r.Lost = at, storeID, time.Time{}, true
			return r
		})
		if err != nil {
			return fmt.Errorf("save loss: %w", err)
		}
	}
	t := Tarball{Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: r.Commit}
	if r.Packed != "" {
		t.Digest, t.Earlier = r.Packed, []ident.Digest{r.Digest}
	}
	err := s.writeSidecar(t, disk.WriteSync)
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

// Prune removes a shipped tarball; the caller knows from the receiver that it is stored.
// While the episode's folder is stuck the tarball stays, to mark the folder as shipped.
func (s *Spool) Prune(id ident.EpisodeID) error {
	if disk.Exists(s.FS, s.episode(id)) {
		return nil
	}
	if err := s.remove(s.inShipped(id)); err != nil {
		return fmt.Errorf("prune %s: %w", id, err)
	}
	return nil
}

// someRows is how many obsolete receipts do not justify a rewrite.
const someRows = 100

// Shorten removes the receipts of episodes that have left this host, once they are the
// majority. Every start and reconcile reads the file, so it must not grow without bound.
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

// isHere reports whether an episode still needs its receipt. An episode moving from the
// outbox to shipped/ is found in one of them, in this order.
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
