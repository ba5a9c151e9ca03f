package episode

import (
	"fmt"
	"io/fs"
	"path"

	"cis490/internal/disk"
)

// survey is the list of an episode's files, made before any of them is read.
type survey struct {
	Source
	files  []surveyed
	tally  tally
	listed int // names of all kinds
	owner  int // of the directory
}

// surveyed is a file and its stat when it was listed.
type surveyed struct {
	name string
	info fs.FileInfo
}

// surveyOf lists an episode within its limits: at most MaxFiles names, and Most bytes by
// the files' sizes. If the directory is gone, it returns fs.ErrNotExist.
func surveyOf(src Source) (*survey, error) {
	if src.Most == 0 {
		src.Most = MaxBytes
	}
	s := &survey{Source: src, tally: tally{Limits: FormatLimits()}}
	at, err := src.FS.Lstat(src.Dir)
	if err != nil {
		return nil, fmt.Errorf("pack episode: %w", err)
	}
	if !at.IsDir() {
		return nil, &Unpackable{".", "is " + kind(at)}
	}
	s.owner, _ = disk.Owner(at)
	if err := s.list(""); err != nil {
		return nil, err
	}
	if s.tally.bytes > s.Most {
		return nil, &Larger{s.Most}
	}
	return s, nil
}

func (s *survey) list(dir string) error {
	entries, err := disk.ReadDirN(s.FS, path.Join(s.Dir, dir), MaxFiles-s.listed+1)
	if err != nil {
		return Unreadable(path.Clean(dir), err)
	}
	if s.listed += len(entries); s.listed > MaxFiles {
		return &Unpackable{path.Clean(dir), fmt.Sprintf("holds more than %d files and folders", MaxFiles)}
	}
	for _, e := range entries {
		if dir == "" && e.Name() == ReasonFile {
			continue
		}
		if err := s.add(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) add(name string) error {
	fi, err := s.FS.Lstat(path.Join(s.Dir, name))
	if err != nil {
		return Unreadable(name, err)
	}
	why := ""
	uid, _ := disk.Owner(fi)
	switch {
	case !fi.IsDir() && !fi.Mode().IsRegular():
		why = "is " + kind(fi)
	case uid != s.owner:
		why = "belongs to another user than the episode"
	case fi.IsDir():
		if why = nameFault(path.Join(name, "x"), MaxDepth); why == "" {
			return s.list(name)
		}
	case disk.LinkCount(fi) != 1:
		why = "has other names (hard links)"
	default:
		why = s.tally.add(name, fi.Size())
	}
	if why != "" {
		return &Unpackable{name, why}
	}
	s.files = append(s.files, surveyed{name, fi})
	return nil
}

// kind names a file type that is not packed.
func kind(fi fs.FileInfo) string {
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return "a symlink"
	case fi.Mode().IsRegular():
		return "a file"
	}
	return "neither a file nor a directory (" + fi.Mode().Type().String() + ")"
}

// Bytes returns the total size of an episode's files without following links. It reads at
// most as many names as an episode may have, so that a directory with a million of them
// costs no more; such a directory cannot be packed anyway.
func Bytes(src Source) int64 {
	s := &survey{Source: src, tally: tally{Limits: FormatLimits()}}
	if at, err := src.FS.Lstat(src.Dir); err != nil || !at.IsDir() {
		return 0
	}
	s.sum("", 0)
	return s.tally.bytes
}

func (s *survey) sum(dir string, depth int) {
	entries, err := disk.ReadDirN(s.FS, path.Join(s.Dir, dir), MaxFiles-s.listed+1)
	if err != nil || depth > MaxDepth {
		return // what cannot be read is not packed, so its size does not matter
	}
	s.listed += len(entries)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() && s.listed <= MaxFiles {
			s.sum(name, depth+1)
		} else if fi, err := s.FS.Lstat(path.Join(s.Dir, name)); err == nil && fi.Mode().IsRegular() {
			s.tally.bytes += min(fi.Size(), MaxBytes-s.tally.bytes)
		}
	}
}
