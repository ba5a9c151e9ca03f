package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/receiver"
)

// Importer stores copies of tarballs in a data folder that does not serve them.
type Importer struct{ s Store }

// NewImporter returns the importer of a data folder, and makes its folders.
func NewImporter(fsys disk.FS, dataDir string) (*Importer, error) {
	for _, d := range []string{EpisodesDir, StagedDir} {
		if err := disk.MkdirAll(fsys, filepath.Join(dataDir, d), dirPerm); err != nil {
			return nil, err
		}
	}
	return &Importer{Store{o: Options{FS: fsys, DataDir: dataDir}}}, nil
}

// Has reports whether the file exists with the digest.
func (i *Importer) Has(_ context.Context, e receiver.Entry) (bool, error) {
	path := i.s.path(e.Key())
	fi, err := i.s.o.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d, _, err := i.s.attrs(path)
	if err == nil && d == "" {
		d, err = i.s.hash(path)
	}
	if err == nil && (d != e.Digest || fi.Size() != e.Size) {
		err = fmt.Errorf("%s has %s, %d bytes, want %s, %d bytes: %w", path, d, fi.Size(), e.Digest, e.Size, receiver.ErrConflict)
	}
	return err == nil, err
}

// Import writes the file under a name that a start sweeps, and links it when it is whole.
func (i *Importer) Import(ctx context.Context, e receiver.Entry, t receiver.Tarball) (err error) {
	it := newStaged(receiver.Upload{Host: e.Host, Episode: e.Episode, Digest: e.Digest, Size: e.Size, Commit: e.Commit})
	it.name += disk.Partial
	defer func() { err = errors.Join(err, i.s.discard(it.name)) }()
	err = disk.WriteSync(i.s.o.FS, i.s.staged(it.name), filePerm, func(w io.Writer) error {
		f, ok := w.(disk.File)
		if !ok {
			return fs.ErrInvalid
		}
		got, err := i.s.copy(f, until{ctx, t}, e.Size)
		if err != nil {
			return err
		}
		if got != e.Digest {
			return fmt.Errorf("%w: got %s", receiver.ErrDigest, got)
		}
		return i.s.setAttrs(f, got, e.Commit)
	})
	if err != nil {
		return err
	}
	if err := i.s.link(it); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := i.s.o.FS.SyncDir(i.s.hostDir(e.Host)); err != nil {
		return err
	}
	return i.s.o.FS.SyncDir(filepath.Join(i.s.o.DataDir, EpisodesDir)) // the host's folder
}

// until reads until a context ends.
type until struct {
	ctx context.Context //nolint:containedctx // of one copy
	io.Reader
}

func (u until) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(b)
}
