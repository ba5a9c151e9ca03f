package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/receiver/index"
)

const (
	// settlePause lets lines gather, so that they share a flush and their rows a commit.
	settlePause = 100 * time.Millisecond
	// settleIdle is when a journal without work is looked at.
	settleIdle = time.Second
	// filesAtOnce is how many files are made at the same time.
	filesAtOnce = 16
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
	// One flush for all of them: a sync of each would keep the disk from the
	// journal. It also tells of what failed since it was begun.
	flush, err := s.o.FS.BeginFlush(s.o.DataDir)
	if err != nil {
		return fmt.Errorf("settle journal: %w", err)
	}
	var files errgroup.Group
	files.SetLimit(filesAtOnce)
	for _, l := range lines {
		if err := s.makeHostDir(l.Host); err != nil {
			return errors.Join(fmt.Errorf("settle journal: %w", err), files.Wait())
		}
		files.Go(func() error { return s.writeFile(l) })
	}
	if err := files.Wait(); err != nil {
		return fmt.Errorf("settle journal: %w", err)
	}
	if err := flush(); err != nil {
		return fmt.Errorf("settle journal: make files durable: %w", err)
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

// writeFile writes a line's file; it is not durable yet.
func (s *Store) writeFile(l *line) (err error) {
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
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(l.body); err != nil {
		return err
	}
	if err := s.setAttrs(path, l.Digest, l.Commit); err != nil {
		return err
	}
	return nil
}
