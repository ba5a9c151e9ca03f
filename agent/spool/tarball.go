package spool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Tarball is a packed episode whose bytes and digest are durable. As JSON it is
// the file beside it.
type Tarball struct {
	Episode  ident.EpisodeID `json:"episode"`
	Digest   ident.Digest    `json:"sha256"`
	Size     int64           `json:"size"` // bytes
	Commit   ident.Commit    `json:"commit,omitempty"`
	Repacked bool            `json:"repacked,omitempty"` // once more, after the receiver found it damaged
}

// maxSidecar bounds the small JSON files in bytes.
const maxSidecar = 64 << 10

// Tarball returns the durable tarball of an episode, packing it if it has none
// yet. An *episode.Unpackable or a missing directory is the episode's own fault;
// after any other error the next try may succeed. moved, if set, is told of
// progress.
func (s *Spool) Tarball(ctx context.Context, p Packer, id ident.EpisodeID, moved func(n int)) (Tarball, error) {
	path := s.inOutbox(id, wire.TarballSuffix)
	fi, err := s.FS.Lstat(path)
	switch {
	case err == nil:
		return s.existing(id, fi.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return Tarball{}, fmt.Errorf("look for tarball: %w", err)
	}
	return s.pack(ctx, p, id, moved, false)
}

// Repack throws away a tarball that arrived damaged and packs it again. Without
// the episode's directory there is nothing to pack from, and the error is
// fs.ErrNotExist.
func (s *Spool) Repack(ctx context.Context, p Packer, id ident.EpisodeID, moved func(n int)) (Tarball, error) {
	if err := s.whole(id); err != nil {
		return Tarball{}, fmt.Errorf("pack %s again: look for its directory: %w", id, err)
	}
	// First the old bytes go, for good: under the new digest they would be wrong.
	err := errors.Join(s.remove(s.inOutbox(id, wire.TarballSuffix)), s.remove(s.inOutbox(id, metaSuffix)), s.FS.SyncDir(s.outbox()))
	if err != nil {
		return Tarball{}, fmt.Errorf("pack %s again: %w", id, err)
	}
	return s.pack(ctx, p, id, moved, true)
}

func (s *Spool) pack(ctx context.Context, p Packer, id ident.EpisodeID, moved func(n int), again bool) (Tarball, error) {
	dir := s.episode(id)
	if err := s.whole(id); err != nil {
		return Tarball{}, fmt.Errorf("pack %s: look for its directory: %w", id, err)
	}
	m, err := episode.ReadMeta(s.FS, dir)
	switch {
	case err != nil:
		return Tarball{}, episode.Unreadable(episode.MetaFile, err)
	case m.Episode != id:
		return Tarball{}, &episode.Unpackable{File: episode.MetaFile, Why: fmt.Sprintf("is of episode %q", m.Episode)}
	case m.Verdict == episode.Abandoned:
		return Tarball{}, &episode.Unpackable{File: episode.MetaFile, Why: "says that the recording was abandoned"}
	}
	t := Tarball{Episode: id, Commit: m.Code.Commit, Repacked: again}
	final := s.inOutbox(id, wire.TarballSuffix)
	partial := final + disk.Partial
	err = disk.WriteSync(s.FS, partial, 0o640, func(w io.Writer) error {
		st := &steady{w: w}
		packed, err := p.Pack(ctx, st, dir, id, moved)
		t.Digest, t.Size = packed.Digest, packed.Size
		return errors.Join(err, st.wait())
	})
	if err != nil {
		return Tarball{}, err
	}
	if err := s.writeSidecar(t); err != nil {
		return Tarball{}, errors.Join(err, s.remove(partial))
	}
	if err := s.FS.Rename(partial, final); err != nil {
		return Tarball{}, errors.Join(err, s.remove(partial))
	}
	// One sync for both names. A tarball without its sidecar is read again.
	if err := s.FS.SyncDir(s.outbox()); err != nil {
		return Tarball{}, fmt.Errorf("make tarball durable: %w", err)
	}
	return t, nil
}

// existing describes a tarball that is in the outbox already. It may have been
// sent, so it stays as it is; its digest is the one noted, or read anew.
func (s *Spool) existing(id ident.EpisodeID, size int64) (Tarball, error) {
	if t, err := s.readSidecar(id); err == nil && t.Size == size {
		// It may be of a run whose SyncDir failed.
		return t, s.FS.SyncDir(s.outbox())
	}
	t := Tarball{Episode: id}
	f, err := s.open(id)
	if err != nil {
		return Tarball{}, err
	}
	h := sha256.New()
	t.Size, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return Tarball{}, fmt.Errorf("read tarball: %w", err)
	}
	t.Digest = ident.Digest(hex.EncodeToString(h.Sum(nil)))
	if t.Commit, err = s.commitOf(id); err != nil {
		return Tarball{}, err
	}
	if err := s.writeSidecar(t); err != nil {
		return Tarball{}, err
	}
	return t, s.FS.SyncDir(s.outbox())
}

// commitOf reads the commit from the episode's directory or, where that is
// gone, out of the tarball.
func (s *Spool) commitOf(id ident.EpisodeID) (ident.Commit, error) {
	if m, err := episode.ReadMeta(s.FS, s.episode(id)); err == nil {
		return m.Code.Commit, nil
	}
	f, err := s.open(id)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	var m episode.Meta
	err = episode.Inspect(f, id, func(name string, size int64, r io.Reader) error {
		if name != episode.MetaFile || size > maxMeta {
			return nil
		}
		return json.NewDecoder(r).Decode(&m)
	})
	if err != nil {
		return "", &episode.Unpackable{File: string(id) + wire.TarballSuffix, Why: "cannot be used: " + err.Error()}
	}
	return m.Code.Commit, nil
}

const maxMeta = 1 << 20

// OpenTarball opens the tarball of an episode for sending.
func (s *Spool) OpenTarball(id ident.EpisodeID) (io.ReadCloser, error) { return s.open(id) }

func (s *Spool) open(id ident.EpisodeID) (disk.File, error) {
	return s.FS.OpenFile(s.inOutbox(id, wire.TarballSuffix), os.O_RDONLY, 0)
}

func (s *Spool) writeSidecar(t Tarball) error {
	b, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("note digest: %w", err)
	}
	err = disk.WriteSync(s.FS, s.inOutbox(t.Episode, metaSuffix), 0o640, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("note digest: %w", err)
	}
	return nil
}

func (s *Spool) readSidecar(id ident.EpisodeID) (Tarball, error) {
	var t Tarball
	b, err := disk.ReadFile(s.FS, s.inOutbox(id, metaSuffix), maxSidecar)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(b, &t); err != nil || t.Episode != id || t.Digest == "" {
		return Tarball{}, fmt.Errorf("digest beside the tarball of %s is not usable: %w", id, errors.Join(err, fs.ErrInvalid))
	}
	return t, nil
}

// steady makes what is written durable bit by bit beside the packing, so that the
// sync at the end of a large tarball neither takes minutes nor starves the
// recordings of the disk.
type steady struct {
	w    io.Writer
	owed int
	sync chan error // of the sync in progress
}

const steadyBytes = 32 << 20

func (s *steady) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if s.owed += n; err != nil || s.owed < steadyBytes {
		return n, err
	}
	s.owed = 0
	if err := s.wait(); err != nil {
		return n, err
	}
	if f, ok := s.w.(disk.File); ok {
		done := make(chan error, 1)
		s.sync = done
		go func() { done <- f.Sync() }()
	}
	return n, nil
}

// wait returns the error of the sync in progress, which no later sync repeats.
func (s *steady) wait() error {
	if s.sync == nil {
		return nil
	}
	err := <-s.sync
	s.sync = nil
	return err
}
