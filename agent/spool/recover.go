package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Recovered is the result of Recover.
type Recovered struct {
	// Interrupted episodes were being packed when the program ended, so one of them may
	// have crashed it.
	Interrupted []ident.EpisodeID
	Finished    int // transitions completed
	// Stuck is how many of the recorder's folders could not be moved or removed.
	Stuck int
}

// Recover finishes or rolls back what a crash interrupted. An error with one episode does
// not stop the others; the episode stays unchanged for another try.
func (s *Spool) Recover() (Recovered, error) {
	var out Recovered
	entries, err := s.FS.ReadDir(s.outbox())
	if err != nil {
		return out, fmt.Errorf("recover spool: %w", err)
	}
	var errs []error
	step := func(err error) {
		if errors.Is(err, ErrStuck) { // everything else is done; Scan reports it
			out.Stuck++
			return
		}
		out.Finished++
		errs = append(errs, err)
	}
	tarballs := map[ident.EpisodeID]bool{}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(s.outbox(), name)
		id, err := ident.ParseEpisodeID(strings.SplitN(name, ".", 2)[0])
		if err != nil {
			continue
		}
		switch strings.TrimPrefix(name, string(id)) {
		case wire.TarballSuffix:
			tarballs[id] = true
		case wire.TarballSuffix + disk.Partial:
			out.Interrupted = append(out.Interrupted, id)
			errs = append(errs, s.remove(path))
		case reasonSuffix + disk.Partial, metaSuffix + disk.Partial:
			errs = append(errs, s.remove(path))
		case removingSuffix: // from an older version
			step(errors.Join(s.move(path, s.removing(id)), s.FS.SyncDir(s.shipped()), s.FS.SyncDir(s.outbox())))
		case reasonSuffix:
			r, err := s.readReason(path, id)
			if err == nil {
				err = s.finishQuarantine(r)
				delete(tarballs, id)
			}
			step(err)
		}
	}
	recorded, err := disk.ReadDirN(s.FS, s.episodes(), maxNames)
	if err != nil {
		s.Logger.Warn("episodes not read", "err", err) // the recorder's user may have removed our access
	}
	for _, e := range recorded {
		if id, err := ident.ParseEpisodeID(e.Name()); err == nil && s.wasReleased(id) { // finishRelease below releases it
			step(errors.Join(s.move(s.episode(id), s.inQuarantine(id)), s.FS.SyncDir(s.quarantine()), s.FS.SyncDir(s.episodes())))
		}
	}
	quarantined, err := s.Quarantined()
	errs = append(errs, err)
	for _, id := range quarantined {
		switch {
		case s.isLegacy(id):
			step(s.requarantine(id))
		case !disk.Exists(s.FS, s.reasonOf(id)):
			step(s.finishRelease(id))
		case disk.Exists(s.FS, s.episode(id)):
			step(s.moveAside(id))
		}
	}
	shipped, err := s.ids(s.shipped(), removingSuffix)
	errs = append(errs, err)
	for _, id := range shipped { // there may be many: RetryMove removes them
		s.left.set(id, true)
	}
	gone, err := s.ids(s.quarantine(), removingSuffix)
	errs = append(errs, err)
	for _, id := range gone {
		err := s.removeTree(s.inQuarantine(id) + removingSuffix)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrStuck, err)
		}
		step(err)
	}
	errs = append(errs, s.remove(s.receiptsPath()+disk.Partial), s.recoverReceipts(tarballs, step))
	for _, e := range entries { // sidecars without a tarball
		id, isSidecar := strings.CutSuffix(e.Name(), metaSuffix)
		if isSidecar && !disk.Exists(s.FS, s.inOutbox(ident.EpisodeID(id), wire.TarballSuffix)) && !strings.Contains(id, ".") &&
			errors.Is(s.whole(ident.EpisodeID(id)), fs.ErrNotExist) { // else it is packed again, and its first tarball may have been sent
			errs = append(errs, s.remove(filepath.Join(s.outbox(), e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, fmt.Errorf("recover spool: %w", err)
	}
	return out, nil
}

// recoverReceipts finishes moves that a crash interrupted: of acknowledged episodes, and of
// those that were put back.
func (s *Spool) recoverReceipts(tarballs map[ident.EpisodeID]bool, step func(error)) error {
	here := map[ident.EpisodeID]Row{}
	for id := range tarballs {
		here[id] = Row{}
	}
	dirs, err := disk.ReadDirN(s.FS, s.episodes(), maxNames)
	if err != nil {
		s.Logger.Warn("episodes not read", "err", err) // the recorder's user may have removed our access
	}
	for _, e := range dirs {
		if id, err := ident.ParseEpisodeID(e.Name()); err == nil {
			here[id] = Row{}
		}
	}
	lost := map[ident.EpisodeID]Row{}
	err = s.eachRow(func(r Row) {
		if _, ok := here[r.Episode]; ok {
			here[r.Episode] = r
		}
		if r.Lost {
			lost[r.Episode] = r
		} else {
			delete(lost, r.Episode)
		}
	})
	if err != nil {
		return err
	}
	for id, r := range here {
		if r.Episode == "" || r.Lost {
			continue
		}
		t, err := s.sidecar(id)
		if err != nil || t.Digest != "" && t.Digest != r.Digest && t.Digest != r.Packed {
			continue // perhaps another tarball than the acknowledged one: send it
		}
		step(s.Clear(id))
	}
	for id, r := range lost {
		if disk.Exists(s.FS, s.inShipped(id)) {
			step(s.PutBack(r, r.StoreID))
		}
	}
	return nil
}
