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

// stepNoted is the smallest step of the wall clock that meta.json records.
const stepNoted = 200 * time.Millisecond

// meta returns the metadata known when the episode begins.
func (r *recording) meta() episode.Meta {
	return episode.Meta{
		SchemaVersion: episode.MetaSchema,
		Episode:       r.id,
		Host:          r.o.Host,
		Profile:       r.profile.Name,
		Counter:       r.counter,
		Slot:          r.slot,
		Class:         r.profile.Class,
		Experiment:    r.o.Experiment.Digest,
		Inputs:        r.inputs,
		Machine:       &r.facts.hardware,
		Clock:         r.facts.clock(),
		Code:          episode.Code{Version: r.o.Build.Version, Commit: r.o.Build.Commit, Dirty: r.o.Build.Dirty},
		Start:         r.o.Now().UTC(),
		Rows:          map[string]int{},
		Sampling:      map[string]episode.Sampling{},
	}
}

// judge fills in the metadata known at the end.
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
		r.note("this kernel keeps no list of children: all processes of the machine were scanned")
	}
	meta.Notes = r.notes
	if step := r.clock.stepped(); step.Abs() > stepNoted {
		meta.ClockStepMS = step.Milliseconds()
	}
}

// finish completes the episode: it makes everything durable, then writes done.marker.
func (r *recording) finish(meta episode.Meta, line *timeline) error {
	if err := writeRows(r.o.FS, filepath.Join(r.dir, episode.EventsFile), line.sorted()); err != nil {
		return err
	}
	if err := writeRows(r.o.FS, filepath.Join(r.dir, episode.LabelsFile), line.labels); err != nil {
		return err
	}
	err := disk.WriteSync(r.o.FS, filepath.Join(r.dir, episode.ExperimentFile), filePerm, func(w io.Writer) error {
		_, err := w.Write(r.o.Experiment.Content)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", episode.ExperimentFile, err)
	}
	err = disk.WriteSync(r.o.FS, filepath.Join(r.dir, episode.MetaFile), filePerm, func(w io.Writer) error {
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
	// The marker is renamed into place, because the shipper takes an episode as soon as it has
	// one.
	err = disk.ReplaceBytes(r.o.FS, filepath.Join(r.dir, episode.DoneMarker), filePerm, []byte(string(meta.Verdict)+"\n"))
	if errors.Is(err, fs.ErrNotExist) && !disk.Exists(r.o.FS, r.dir) {
		return nil // the shipper has taken it already
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

// remove deletes the episode's files.
func (r *recording) remove() error { return removeEpisode(r.o.FS, r.dir) }

// removeEpisode deletes an episode's folder, the marker first, so that no complete episode
// ever lacks files.
func removeEpisode(fsys disk.FS, dir string) error {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove incomplete episode: %w", err)
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
		return fmt.Errorf("remove incomplete episode: %w", err)
	}
	return nil
}

// removeWork deletes a working folder and everything that a workload made in it. It holds
// no data, so durability does not matter.
func removeWork(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	// A workload may have removed its own access to folders.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}
