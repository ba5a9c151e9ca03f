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

// scanLoop is the backstop of watchLoop.
func (s *Shipper) scanLoop(ctx context.Context) {
	for {
		s.pulse.busy("scan")
		found, err := s.scan()
		if err != nil {
			s.Logger.Warn("episodes not scanned", "err", err)
		}
		s.settle(found)
		s.pulse.idle("scan")
		if !s.sleep(ctx, s.Now().Add(s.Config.ScanEvery.D()), nil) {
			return
		}
	}
}

// scan adds the whole episodes that the queue does not know.
func (s *Shipper) scan() (spool.Found, error) {
	found, err := s.Spool.Scan(s.queue.knows)
	if err != nil {
		s.Logger.Warn("episodes not scanned", "err", err) // its owner may have closed the folder
	}
	// Also tarballs without a directory, which a person may have let go.
	tarballs, err := s.Spool.Packed()
	if err != nil {
		return found, err
	}
	for _, id := range append(found.Whole, tarballs...) {
		s.pulse.advance("scan")
		if !s.queue.knows(id) && s.Spool.Waits(id) {
			s.queue.add(id, s.Spool.Look(id))
		}
	}
	s.queue.mu.Lock()
	s.queue.recording = found.Recording
	s.queue.mu.Unlock()
	return found, nil
}

// settle tries again to move the folders out of the way that were stuck. How many
// stay so is logged when that changes.
func (s *Shipper) settle(found spool.Found) {
	stuck, first := 0, error(nil)
	for _, id := range found.Stuck {
		s.pulse.advance("scan")
		if err := s.Spool.Settle(id); err != nil {
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
		s.Logger.Warn("too many names in episodes/: not all are looked at", "host", s.Host)
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
		entries, err := disk.ReadDirN(disk.OS{}, dir, 10*maxWatched)
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

// maxWatched bounds the recordings that are watched at once: far more than a host has
// slots.
const maxWatched = 1000

// look tells of an episode that is whole and watches one that is not yet. The
// marker may come between the two, so it is looked for once more.
func look(w *fsnotify.Watcher, path string, found func(ident.EpisodeID)) {
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
