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
	"slices"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Tarball describes a durable tarball. Its JSON is the sidecar file.
type Tarball struct {
	Episode  ident.EpisodeID `json:"episode"`
	Digest   ident.Digest    `json:"sha256"`
	Content  ident.Digest    `json:"content_sha256,omitempty"` // before compression; see episode.Packed
	Size     int64           `json:"size"`                     // bytes
	Commit   ident.Commit    `json:"commit,omitempty"`
	Repacked bool            `json:"repacked,omitempty"` // packed again after it arrived damaged
	// Earlier are the digests of tarballs with the same content that may have been sent.
	Earlier []ident.Digest `json:"earlier_sha256,omitempty"`
}

// maxSidecar bounds small JSON files, in bytes.
const maxSidecar = 64 << 10

// Packing configures how an episode is packed.
type Packing struct {
	Packer Packer
	Most   int64       // bytes of the directory; 0: no limit but that of an episode
	Moved  func(n int) // called with the bytes of each read; may be nil
}

// Tarball returns the durable tarball of an episode. It packs the episode if needed. An
// *episode.Unpackable or a missing directory is permanent, an *episode.Larger asks for
// another limit, and after any other error a retry may succeed.
func (s *Spool) Tarball(ctx context.Context, p Packing, id ident.EpisodeID) (Tarball, error) {
	fi, err := s.FS.Lstat(s.inOutbox(id, wire.TarballSuffix))
	switch {
	case err == nil:
		return s.existing(id, fi.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return Tarball{}, fmt.Errorf("look for tarball: %w", err)
	}
	first, err := s.sidecar(id) // if there is one, its tarball was removed
	if err != nil {
		return Tarball{}, err
	}
	t, err := s.pack(ctx, p, id)
	if err != nil {
		return Tarball{}, err
	}
	t.inherit(first)
	return t, s.publish(t, first)
}

const maxEarlier = 4

// inherit adds an earlier tarball with the same content to t.Earlier, because it may have
// been sent.
func (t *Tarball) inherit(first Tarball) {
	if first.Content == "" || first.Content != t.Content {
		return
	}
	t.Earlier = slices.Clone(first.Earlier)
	if first.Digest != t.Digest {
		t.Earlier = append(t.Earlier, first.Digest)
	}
	t.Earlier = t.Earlier[max(0, len(t.Earlier)-maxEarlier):]
}

// PackedTarball returns an episode's tarball in the outbox, if its sidecar matches.
func (s *Spool) PackedTarball(id ident.EpisodeID) (Tarball, bool) {
	t, err := s.readSidecar(id)
	if err != nil {
		return t, false
	}
	fi, err := s.FS.Lstat(s.inOutbox(id, wire.TarballSuffix))
	return t, err == nil && fi.Size() == t.Size
}

// ErrChanged means that a directory changed since it was first packed.
var ErrChanged = errors.New("the directory changed since it was packed")

// Repack packs an episode again, because its first tarball arrived damaged. It returns
// ErrChanged if the content differs, and fs.ErrNotExist if the directory is gone; the first
// tarball then stays.
func (s *Spool) Repack(ctx context.Context, p Packing, first Tarball) (Tarball, error) {
	id := first.Episode
	t, err := s.pack(ctx, p, id)
	if err != nil {
		return Tarball{}, err
	}
	t.Repacked = true
	// Another version of the encoder makes other bytes from the same files.
	if t.Digest != first.Digest && (first.Content == "" || t.Content != first.Content) {
		return Tarball{}, errors.Join(ErrChanged, s.remove(s.partial(id)))
	}
	t.inherit(first)
	// The sidecar of the one must never describe the other.
	err = errors.Join(s.remove(s.inOutbox(id, wire.TarballSuffix)), s.FS.SyncDir(s.outbox()))
	if err == nil {
		err = s.publish(t, first)
	}
	if err != nil {
		return Tarball{}, fmt.Errorf("pack %s again: %w", id, err)
	}
	return t, nil
}

func (s *Spool) partial(id ident.EpisodeID) string {
	return s.inOutbox(id, wire.TarballSuffix) + disk.Partial
}

// pack writes and syncs the partial file of a tarball.
func (s *Spool) pack(ctx context.Context, p Packing, id ident.EpisodeID) (Tarball, error) {
	if err := s.whole(id); err != nil {
		return Tarball{}, fmt.Errorf("pack %s: look for its directory: %w", id, err)
	}
	var packed episode.Packed
	err := disk.WriteSync(s.FS, s.partial(id), 0o640, func(w io.Writer) (err error) {
		st := &writebackWriter{w: w}
		packed, err = p.Packer.Pack(ctx, st, episode.Source{FS: s.FS, Dir: s.episode(id), ID: id, Most: p.Most, Moved: p.Moved})
		return errors.Join(err, st.wait())
	})
	if err != nil {
		return Tarball{}, err
	}
	return Tarball{Episode: id, Digest: packed.Digest, Content: packed.Content, Size: packed.Size, Commit: packed.Meta.Code.Commit}, nil
}

// publish writes the sidecar and renames the partial file. A sidecar that replaces the first
// one is durable before that, because it names the tarballs that may have been sent.
func (s *Spool) publish(t, first Tarball) error {
	write := disk.Replace
	if first.Digest == "" {
		write = disk.WriteSync // without SyncDir
	}
	if err := s.writeSidecar(t, write); err != nil {
		return errors.Join(err, s.remove(s.partial(t.Episode)))
	}
	if err := s.FS.Rename(s.partial(t.Episode), s.inOutbox(t.Episode, wire.TarballSuffix)); err != nil {
		return errors.Join(err, s.remove(s.partial(t.Episode)))
	}
	if err := s.FS.SyncDir(s.outbox()); err != nil {
		return fmt.Errorf("make tarball durable: %w", err)
	}
	return nil
}

// existing describes a tarball that is in the outbox already. The tarball may have been
// sent, so it stays; its digest comes from the sidecar, or from the file.
func (s *Spool) existing(id ident.EpisodeID, size int64) (Tarball, error) {
	t, err := s.sidecar(id)
	if err != nil {
		return Tarball{}, err
	}
	if t.Digest != "" && t.Size == size {
		// An earlier run's SyncDir may have failed.
		return t, s.FS.SyncDir(s.outbox())
	}
	t = Tarball{Episode: id}
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
	return t, s.writeSidecar(t, disk.Replace)
}

// commitOf reads the commit from the tarball.
func (s *Spool) commitOf(id ident.EpisodeID) (ident.Commit, error) {
	f, err := s.open(id)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	var m episode.Meta
	err = episode.Inspect(f, id, func(name string, size int64, r io.Reader) error {
		if name != episode.MetaFile || size > maxMeta {
			return nil
		}
		return json.NewDecoder(r).Decode(&m)
	})
	if err != nil {
		return "", &episode.Unpackable{File: string(id) + wire.TarballSuffix, Why: "is not usable: " + err.Error()}
	}
	return m.Code.Commit, nil
}

const maxMeta = 1 << 20

// OpenTarball opens the tarball of an episode for sending.
func (s *Spool) OpenTarball(id ident.EpisodeID) (io.ReadCloser, error) { return s.open(id) }

func (s *Spool) open(id ident.EpisodeID) (disk.File, error) {
	return s.FS.OpenFile(s.inOutbox(id, wire.TarballSuffix), os.O_RDONLY, 0)
}

func (s *Spool) writeSidecar(t Tarball, write func(disk.FS, string, fs.FileMode, func(io.Writer) error) error) error {
	b, err := json.Marshal(t)
	if err == nil {
		err = write(s.FS, s.inOutbox(t.Episode, metaSuffix), 0o640, func(w io.Writer) error {
			_, err := w.Write(append(b, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("save digest: %w", err)
	}
	return nil
}

// sidecar reads a sidecar. Without a usable one it returns the zero Tarball, but an error if
// there may be one: it names the tarballs that may have been sent.
func (s *Spool) sidecar(id ident.EpisodeID) (Tarball, error) {
	t, err := s.readSidecar(id)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return Tarball{}, nil
	}
	return t, err
}

func (s *Spool) readSidecar(id ident.EpisodeID) (Tarball, error) {
	var t Tarball
	b, err := disk.ReadFile(s.FS, s.inOutbox(id, metaSuffix), maxSidecar)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(b, &t); err != nil || t.Episode != id || t.Digest == "" {
		return Tarball{}, fmt.Errorf("sidecar of %s is not usable: %w", id, errors.Join(err, fs.ErrInvalid))
	}
	return t, nil
}

// writebackWriter syncs after every writebackEvery bytes, so that the final sync of a large
// tarball is short and does not delay the recordings' writes.
type writebackWriter struct {
	w    io.Writer
	owed int
	sync chan error // of the sync in progress
}

const writebackEvery = 32 << 20

func (s *writebackWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if s.owed += n; err != nil || s.owed < writebackEvery {
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

// wait returns the error of the sync in progress. A later sync would not report it again.
func (s *writebackWriter) wait() error {
	if s.sync == nil {
		return nil
	}
	err := <-s.sync
	s.sync = nil
	return err
}
