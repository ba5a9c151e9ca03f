package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// exactAtOnce is how many files are compared one by one in memory at a time.
const exactAtOnce = 200_000

// Tally compares sets of names without storing them, by their number and the sum of their
// hashes. Tallies of equal sets are equal.
type Tally struct {
	n   int
	sum uint64
}

// Add adds a name with this hash to the set.
func (t Tally) Add(hash uint64) Tally { return Tally{t.n + 1, t.sum + hash} }

// Remove removes a name with this hash from the set.
func (t Tally) Remove(hash uint64) Tally { return Tally{t.n - 1, t.sum - hash} }

// Compare compares all rows with all files, both ways, and appends missing rows. It takes
// as long as reading the index and listing the files. Its memory grows with the number of
// hosts, not episodes. It is for the background.
func (s *Store) Compare(ctx context.Context) (receiver.Comparison, error) {
	c := receiver.Comparison{At: s.o.Now().UTC()}
	seed := maphash.MakeSeed()
	differ, files := map[ident.Host]Tally{}, map[ident.Host]int{} // differ: files minus rows
	hosts, err := s.hosts()
	if err != nil {
		return c, err
	}
	for _, h := range hosts {
		ids, err := s.episodes(ctx, h)
		if err != nil {
			return c, err
		}
		for _, id := range ids {
			differ[h] = differ[h].Add(maphash.String(seed, string(id)))
		}
		files[h] = len(ids)
		c.Files += len(ids)
	}
	for r, err := range s.o.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return c, err
		}
		hash := maphash.String(seed, string(r.Episode))
		if r.Archived { // its file was removed
			differ[r.Host] = differ[r.Host].Add(hash)
			continue
		}
		c.Rows++
		differ[r.Host] = differ[r.Host].Remove(hash)
	}
	// Compare hosts that differ one by one; an upload in the meantime is enough for that.
	var closely []ident.Host
	n := 0
	for h, d := range differ {
		if d == (Tally{}) {
			continue
		}
		closely = append(closely, h)
		if n += files[h]; n >= exactAtOnce {
			if err := s.compareClosely(ctx, closely, &c); err != nil {
				return c, err
			}
			closely, n = nil, 0
		}
	}
	return c, s.compareClosely(ctx, closely, &c)
}

// compareClosely compares the rows and files of some hosts one by one.
func (s *Store) compareClosely(ctx context.Context, hosts []ident.Host, c *receiver.Comparison) error {
	if len(hosts) == 0 {
		return nil
	}
	these, owed := map[ident.Host]bool{}, map[receiver.Key]bool{} // owed: files without a row so far
	for _, h := range hosts {
		these[h] = true
		ids, err := s.episodes(ctx, h)
		if err != nil {
			return err
		}
		for _, id := range ids {
			owed[receiver.Key{Host: h, Episode: id}] = true
		}
	}
	rowed := map[receiver.Key]bool{}
	for r, err := range s.o.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		k := r.Key()
		if !these[k.Host] || r.Archived || rowed[k] {
			continue
		}
		rowed[k] = true
		if owed[k] {
			delete(owed, k)
			continue
		}
		// Listed before the upload ended, archived, or missing.
		_, err := s.o.FS.Lstat(s.path(k))
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_, archived, err := Archived(s.o.FS, s.o.DataDir, k)
		if err != nil {
			return err
		}
		if !archived {
			c.NoFile++
			c.First = fmt.Sprintf("%s/%s", k.Host, k.Episode)
		}
	}
	for k := range owed {
		if err := s.repairRow(k, c); err != nil {
			return err
		}
	}
	return nil
}

// repairRow appends the row of a file without one. It waits for the episode's lock, which
// uploads hold until they have appended the row.
func (s *Store) repairRow(k receiver.Key, c *receiver.Comparison) error {
	defer s.keys.Lock(k)()
	_, settling := s.stagedOf(k)
	r, there, err := s.lookupTarball(k)
	if err != nil || !there || settling { // lookupTarball has appended it
		return err
	}
	// The row of a new file may have been appended after the index was read. Old files need
	// no second search, which would be expensive if the index was lost.
	if since := c.At.Add(-time.Hour); r.ReceivedAt.After(since) {
		found, err := s.findRows(since, map[receiver.Key]bool{k: true})
		if err != nil || found[k] {
			return err
		}
	}
	r.Repaired = true
	if _, err := s.appendEntry(r); err != nil {
		return fmt.Errorf("index episode: %w", err)
	}
	c.Repaired++
	s.o.Log.Info("row repaired", "host", k.Host, "episode", k.Episode)
	return nil
}

func (s *Store) hosts() ([]ident.Host, error) {
	entries, err := s.o.FS.ReadDir(filepath.Join(s.o.DataDir, EpisodesDir))
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	var hosts []ident.Host
	for _, e := range entries {
		if h, err := ident.ParseHost(e.Name()); err == nil && e.IsDir() {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}

func (s *Store) episodes(ctx context.Context, h ident.Host) ([]ident.EpisodeID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := s.o.FS.ReadDir(s.hostDir(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list episodes: %w", err)
	}
	var ids []ident.EpisodeID
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), wire.TarballSuffix)
		if id, err := ident.ParseEpisodeID(name); ok && err == nil && e.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
