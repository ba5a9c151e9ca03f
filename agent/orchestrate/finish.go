package orchestrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
)

// stepNoted is how far the wall clock may drift from the monotonic one within
// an episode before meta.json says that it stepped.
const stepNoted = 200 * time.Millisecond

// meta returns what is known of the episode when it begins.
func (r *recording) meta() episode.Meta {
	return episode.Meta{
		SchemaVersion: episode.MetaSchema,
		Episode:       r.id,
		Host:          r.o.Host,
		Profile:       r.profile.Name,
		Counter:       r.counter,
		Slot:          r.slot,
		Experiment:    r.o.Experiment.Digest,
		Code:          episode.Code{Version: r.o.Build.Version, Commit: r.o.Build.Commit, Dirty: r.o.Build.Dirty},
		Start:         r.o.Now().UTC(),
		Rows:          map[string]int{},
		Sampling:      map[string]episode.Sampling{},
	}
}

// judge fills in what is known when it is over.
func (r *recording) judge(meta *episode.Meta, line *timeline, left int) {
	meta.Verdict, meta.Reason = line.verdict()
	for _, s := range r.samplers {
		meta.Rows[s.source] = s.rows
		meta.Sampling[s.source] = s.sampling()
	}
	meta.Load = r.load.read(int(max(r.beside, r.busy.Load())))
	if left > 0 {
		r.note("%d processes outlived the recording and were ended", left)
	}
	if line.dropped > 0 {
		r.note("%d events beyond the first %d were dropped", line.dropped, maxEvents)
	}
	if r.processes.tree.scan {
		r.note("this kernel keeps no list of children: all processes of the machine were looked through")
	}
	meta.Notes = r.notes
	if step := r.clock.stepped(); step.Abs() > stepNoted {
		meta.ClockStepMS = step.Milliseconds()
	}
}

// finish makes the episode whole: everything durable, then done.marker.
func (r *recording) finish(meta episode.Meta, line *timeline) error {
	if err := writeRows(r.o.FS, filepath.Join(r.dir, episode.EventsFile), line.sorted()); err != nil {
		return err
	}
	if err := writeRows(r.o.FS, filepath.Join(r.dir, episode.LabelsFile), line.labels); err != nil {
		return err
	}
	err := disk.WriteSync(r.o.FS, filepath.Join(r.dir, episode.MetaFile), filePerm, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(meta)
	})
	if err == nil {
		err = r.o.FS.SyncDir(r.dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", episode.MetaFile, err)
	}
	// Whole from the first moment, as the shipper takes the episode when it sees
	// the marker: one that was written under its name was packed while it changed.
	err = disk.ReplaceBytes(r.o.FS, filepath.Join(r.dir, episode.DoneMarker), filePerm, []byte(string(meta.Verdict)+"\n"))
	if errors.Is(err, fs.ErrNotExist) && !disk.Exists(r.o.FS, r.dir) {
		return nil // the shipper waits for the marker alone, and was quicker
	}
	return err
}

func writeRows[T any](fsys disk.FS, path string, rows []T) error {
	err := disk.WriteSync(fsys, path, filePerm, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, row := range rows {
			if err := enc.Encode(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// remove takes away what there is of the episode.
func (r *recording) remove() error { return removeEpisode(r.o.FS, r.dir) }

// removeEpisode removes an episode's folder, the marker first, so that at no
// moment a whole one lacks files.
func removeEpisode(fsys disk.FS, dir string) error {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove half episode: %w", err)
	}
	all := []error{fsys.Remove(filepath.Join(dir, episode.DoneMarker)), fsys.SyncDir(dir)}
	for _, f := range files {
		all = append(all, fsys.Remove(filepath.Join(dir, f.Name())))
	}
	all = append(all, fsys.Remove(dir), fsys.SyncDir(filepath.Dir(dir)))
	var bad []error
	for _, err := range all {
		if !errors.Is(err, fs.ErrNotExist) {
			bad = append(bad, err)
		}
	}
	if err := errors.Join(bad...); err != nil {
		return fmt.Errorf("remove half episode: %w", err)
	}
	return nil
}

// removeWork removes a working folder and whatever a workload made of it. It is
// no data, so nothing of it need be durable.
func removeWork(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	// Folders that the workload has locked against itself.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}
