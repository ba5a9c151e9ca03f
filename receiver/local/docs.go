package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"cis490/internal/disk"
	"cis490/receiver"
)

// folder stores each document as a file.
type folder struct {
	fs  disk.FS
	dir string
}

// Folder returns the documents of a folder.
func Folder(fsys disk.FS, dir string) receiver.Docs { return folder{fsys, dir} }

func (f folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// perm is the mode of a document's file. Everyone may read when fleet-check and backup
// ran.
func perm(name string) fs.FileMode {
	if strings.HasPrefix(name, receiver.FleetCheckDoc) || name == receiver.BackupDoc {
		return 0o644
	}
	return filePerm
}

// Load reads the file.
func (f folder) Load(name string, limit int64) ([]byte, error) {
	return disk.ReadFile(f.fs, f.path(name), limit)
}

// Save replaces the file by rename. It makes the folder of names with a slash.
func (f folder) Save(name string, content []byte) error {
	err := disk.ReplaceBytes(f.fs, f.path(name), perm(name), content)
	if errors.Is(err, fs.ErrNotExist) && strings.Contains(name, "/") {
		if err = disk.MkdirAll(f.fs, filepath.Dir(f.path(name)), 0o750); err == nil {
			err = disk.ReplaceBytes(f.fs, f.path(name), perm(name), content)
		}
	}
	return err
}

// Replace compares the file's version, which only one process of this machine changes.
func (f folder) Replace(name, version string, content []byte) error {
	doc, err := f.Stat(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case doc.Version != version:
		return receiver.ErrChanged
	}
	return f.Save(name, content)
}

// Remove removes the file.
func (f folder) Remove(name string) error {
	if err := f.fs.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Stat stats the file, which Save replaces by another one.
func (f folder) Stat(name string) (receiver.Doc, error) {
	fi, err := f.fs.Lstat(f.path(name))
	if err != nil {
		return receiver.Doc{}, err
	}
	version := fmt.Sprintf("%d-%d", fi.Size(), fi.ModTime().UnixNano())
	return receiver.Doc{Size: fi.Size(), Saved: fi.ModTime(), Version: version}, nil
}

// All describes the files of a folder. A directory in place of one is a document that cannot be loaded.
func (f folder) All(prefix string) (map[string]receiver.Doc, error) {
	entries, err := f.fs.ReadDir(f.path(prefix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := make(map[string]receiver.Doc, len(entries))
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), disk.Partial) {
			continue
		}
		doc, err := f.Stat(prefix + e.Name())
		switch {
		case err == nil:
			all[prefix+e.Name()] = doc
		case !errors.Is(err, fs.ErrNotExist): // removed meanwhile
			return nil, err
		}
	}
	return all, nil
}

// Writable writes a file of the document's size beside it, and removes that.
func (f folder) Writable(name string) error {
	size := int64(4 << 10)
	if fi, err := f.fs.Lstat(f.path(name)); err == nil {
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", f.path(name), disk.ErrNotRegular)
		}
		size = max(size, fi.Size())
	}
	trial := f.path(name) + disk.Partial
	err := disk.WriteSync(f.fs, trial, 0o600, func(w io.Writer) error {
		_, err := w.Write(make([]byte, size))
		return err
	})
	if err == nil {
		err = f.fs.Remove(trial)
	}
	return err
}
