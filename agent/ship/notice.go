package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
)

// scanLoop finds the episodes that watchLoop missed.
func (s *Shipper) scanLoop(ctx context.Context) {
	for {
		s.watchdog.busy("scan")
		found, err := s.scan()
		if err != nil {
			s.Logger.Warn("episodes not scanned", "err", err)
		}
		s.retryStuck(found)
		s.watchdog.idle("scan")
		if !s.sleep(ctx, s.Now().Add(s.Config.ScanEvery.D()), nil) {
			return
		}
	}
}

// scan adds the complete episodes that the queue does not contain.
func (s *Shipper) scan() (spool.Found, error) {
	found, err := s.Spool.Scan(s.queue.knows)
	if err != nil {
		s.Logger.Warn("episodes not scanned", "err", err) // the recorder's user may have removed our access
	}
	// Tarballs without a directory too: a person may have run `episode retry`.
	tarballs, err := s.Spool.Packed()
	if err != nil {
		return found, err
	}
	for _, id := range append(found.Whole, tarballs...) {
		s.watchdog.advance("scan")
		if !s.queue.knows(id) && s.Spool.Waits(id) {
			s.queue.add(id, s.Spool.Describe(id))
		}
	}
	s.queue.mu.Lock()
	s.queue.recording = found.Recording
	s.queue.mu.Unlock()
	return found, nil
}

// retryStuck tries again to move the folders that could not be moved. It logs their number
// when it changes.
func (s *Shipper) retryStuck(found spool.Found) {
	stuck, first := 0, error(nil)
	for _, id := range found.Stuck {
		s.watchdog.advance("scan")
		if err := s.Spool.RetryMove(id); err != nil {
			stuck++
			first = cmp.Or(first, err)
		}
	}
	if stuck != s.stuck && stuck > 0 {
		s.Logger.Warn("folders of the recorder cannot be moved or removed", "host", s.Host, "count", stuck, "err", first,
			"fix", "on the lab host: sudo cis490 doctor")
	}
	s.stuck = stuck
	if found.More {
		s.Logger.Warn("too many entries in episodes/: some were skipped", "host", s.Host)
	}
}

// watchLoop adds new episodes as soon as their marker appears.
func (s *Shipper) watchLoop(ctx context.Context) {
	if s.Watch == nil {
		return
	}
	err := s.Watch(ctx, func(id ident.EpisodeID) {
		s.watchdog.busy("watch")
		defer s.watchdog.idle("watch")
		if !s.queue.knows(id) && s.Spool.Done(id) {
			s.queue.add(id, s.Spool.Describe(id))
		}
	})
	if err != nil && ctx.Err() == nil {
		s.Logger.Warn("new episodes are noticed by scanning only", "wait", s.Config.ScanEvery.D(), "err", err)
	}
}

// Watch returns a function that reports episodes in dir that may be complete, by inotify,
// until the context ends. The scan finds those that it misses.
func Watch(dir string) func(ctx context.Context, found func(ident.EpisodeID)) error {
	return func(ctx context.Context, found func(ident.EpisodeID)) error {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		defer func() { _ = w.Close() }()
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		// Recordings that began before the watch.
		entries, err := disk.ReadDirN(disk.OS{}, dir, 10*maxWatched)
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		for _, e := range entries {
			watchEpisode(w, filepath.Join(dir, e.Name()), found)
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
					watchEpisode(w, ev.Name, found)
				} else if strings.HasSuffix(ev.Name, "/"+episode.DoneMarker) {
					watchEpisode(w, filepath.Dir(ev.Name), found)
				}
			}
		}
	}
}

// maxWatched bounds the recordings that are watched at once; a host has far fewer slots.
const maxWatched = 1000

// watchEpisode reports a complete episode and watches an incomplete one. It checks for the
// marker again after adding the watch, because the marker may appear in between.
func watchEpisode(w *fsnotify.Watcher, path string, found func(ident.EpisodeID)) {
	id, err := ident.ParseEpisodeID(filepath.Base(path))
	if err != nil {
		return
	}
	marker := filepath.Join(path, episode.DoneMarker)
	if _, err := (disk.OS{}).Lstat(marker); errors.Is(err, fs.ErrNotExist) {
		if len(w.WatchList()) > maxWatched || w.Add(path) != nil {
			return // the scan finds it
		}
		if _, err := (disk.OS{}).Lstat(marker); err != nil {
			return
		}
	}
	_ = w.Remove(path) // may not be watched
	found(id)
}
