package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/index"
)

const (
	// settlePause lets lines gather, so that their rows share a commit.
	settlePause = 20 * time.Millisecond
	// settleIdle is when a journal without work is looked at.
	settleIdle = time.Second
	// filesAtOnce is how many files are open and made durable at the same time.
	filesAtOnce = 64
)

// Run settles the journal in the background until ctx ends, then once more.
// Without it uploads stay as safe as they are, in the journal.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(settleIdle)
	defer tick.Stop()
	said := false
	for {
		idle := false
		select {
		case <-ctx.Done():
		case <-s.journal.wake:
		case <-tick.C:
			idle = true // or a start would look through the journal, however old it is
		}
		err := s.journal.settle(idle || ctx.Err() != nil)
		if err != nil && !said {
			s.o.Log.Error("journal is not settled", "err", err)
		}
		said = err != nil
		if ctx.Err() != nil {
			return nil
		}
		time.Sleep(settlePause)
	}
}

// settleLines makes the files of lines durable, then all their rows at once.
// What a try before has left of the files is made anew, not believed.
func (s *Store) settleLines(lines []*line, again bool) error {
	if len(lines) == 0 {
		return nil
	}
	hosts := map[ident.Host]bool{}
	for part := range slices.Chunk(lines, filesAtOnce) {
		if err := s.writeFiles(part, hosts); err != nil {
			return fmt.Errorf("settle journal: %w", err)
		}
	}
	var g errgroup.Group
	g.SetLimit(filesAtOnce)
	for h := range hosts {
		g.Go(func() error { return s.syncDir(s.hostDir(h)) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("settle journal: make names durable: %w", err)
	}
	rows := make([]index.Row, len(lines))
	for i, l := range lines {
		rows[i] = l.row()
		rows[i].Repaired = again
	}
	if err := s.o.Index.AppendAll(rows); err != nil {
		return fmt.Errorf("index episodes: %w", err)
	}
	return nil
}

// writeFiles writes files and makes their content durable; their names are not
// yet. hosts gets the hosts whose folder has to be synced for that.
func (s *Store) writeFiles(lines []*line, hosts map[ident.Host]bool) (err error) {
	var files []disk.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, l := range lines {
		if !hosts[l.Host] {
			if err := s.makeHostDir(l.Host); err != nil {
				return err
			}
			hosts[l.Host] = true
		}
		path := s.path(l.key())
		const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
		f, err := s.o.FS.OpenFile(path, flags, filePerm)
		if errors.Is(err, fs.ErrExist) {
			if err := s.o.FS.Remove(path); err != nil {
				return err
			}
			f, err = s.o.FS.OpenFile(path, flags, filePerm)
		}
		if err != nil {
			return err
		}
		files = append(files, f)
		if _, err := f.Write(l.body); err != nil {
			return err
		}
		if err := s.setAttrs(path, l.Digest, l.Commit); err != nil {
			return err
		}
	}
	var g errgroup.Group // at once, as most file systems then commit them as one
	for _, f := range files {
		g.Go(f.Sync)
	}
	return g.Wait()
}
