package ship

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"cis490/internal/episode"
	"cis490/internal/ident"
)

// scanLoop is the backstop of watchLoop.
func (s *Shipper) scanLoop(ctx context.Context) {
	for s.sleep(ctx, s.Now().Add(s.Config.ScanEvery.D()), nil) {
		s.pulse.busy("scan")
		if err := s.scan(); err != nil {
			s.Logger.Warn("episodes not scanned", "err", err)
		}
		s.pulse.idle("scan")
	}
}

// watchLoop notices new work at once.
func (s *Shipper) watchLoop(ctx context.Context) {
	if s.Watch == nil {
		return
	}
	err := s.Watch(ctx, func(id ident.EpisodeID) {
		s.pulse.busy("watch")
		defer s.pulse.idle("watch")
		if !s.queue.knows(id) && s.Spool.Done(id) {
			s.queue.add(id, s.Spool.Look(id))
		}
	})
	if err != nil && ctx.Err() == nil {
		s.Logger.Warn("new episodes are noticed by scanning only", "wait", s.Config.ScanEvery.D(), "err", err)
	}
}

// Watch tells of episodes in dir that may have become whole, by inotify, until
// the context ends. What it misses the scan finds.
func Watch(dir string) func(ctx context.Context, found func(ident.EpisodeID)) error {
	return func(ctx context.Context, found func(ident.EpisodeID)) error {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		defer func() { _ = w.Close() }() // nothing to lose
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		// Recordings that began before the watch did.
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		for _, e := range entries {
			look(w, filepath.Join(dir, e.Name()), found)
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case err, ok := <-w.Errors:
				if !ok || !errors.Is(err, fsnotify.ErrEventOverflow) {
					return fmt.Errorf("watch %s: %w", dir, err)
				}
			case ev, ok := <-w.Events:
				if !ok {
					return nil
				}
				if !ev.Has(fsnotify.Create) {
					continue
				}
				if filepath.Dir(ev.Name) == filepath.Clean(dir) {
					look(w, ev.Name, found)
				} else if strings.HasSuffix(ev.Name, "/"+episode.DoneMarker) {
					look(w, filepath.Dir(ev.Name), found)
				}
			}
		}
	}
}

// look tells of an episode that is whole and watches one that is not yet. The
// marker may come between the two, so it is looked for once more.
func look(w *fsnotify.Watcher, path string, found func(ident.EpisodeID)) {
	id, err := ident.ParseEpisodeID(filepath.Base(path))
	if err != nil {
		return
	}
	marker := filepath.Join(path, episode.DoneMarker)
	if _, err := os.Lstat(marker); errors.Is(err, fs.ErrNotExist) {
		if w.Add(path) != nil {
			return // the scan finds it
		}
		if _, err := os.Lstat(marker); err != nil {
			return
		}
	}
	_ = w.Remove(path) // may not be watched
	found(id)
}
