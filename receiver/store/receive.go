package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

// syncInlineMin is the size from which an upload is synced by itself before the group
// commit, so that others in the commit do not wait for it.
const syncInlineMin = 1 << 20

// writebackEvery is how many bytes an upload writes before writeback starts, so that the
// final sync has little left to flush.
const writebackEvery = 4 << 20

// Receive stores an upload. It calls admit after it has read the body and before it
// publishes the episode; an error of admit ends the upload. created is false if another
// upload of the same content was first. After an error nothing is stored, unless only the
// row is missing: then the next attempt finds the tarball.
func (s *Store) Receive(u receiver.Upload, body io.Reader, admit func() error) (r receiver.Entry, created bool, err error) {
	defer func() {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: %w", receiver.ErrFull, err)
		}
	}()
	reservation, err := s.reserve(u.Size)
	if err != nil {
		return r, false, err
	}
	defer reservation.end()
	return s.receive(newStaged(u), &reservedBody{body, reservation}, admit)
}

func (s *Store) receive(it stagedUpload, body io.Reader, admit func() error) (r receiver.Entry, created bool, err error) {
	it.epoch = s.commits.epoch()
	linked := false
	defer func() {
		if !linked {
			err = errors.Join(err, s.discard(it.name))
		}
	}()
	if err := s.stage(it, body); err != nil {
		return r, false, err
	}
	if err := admit(); err != nil {
		return r, false, err
	}
	defer s.keys.Lock(it.row.Key())()
	defer s.busy.begin(s.o.Now())()
	r, stored, err := s.linkNew(it)
	if err == nil && stored && r.Digest != it.row.Digest {
		err = receiver.ErrConflict
	}
	if stored || err != nil {
		return r, false, err
	}
	linked = true // from now on the staged name shows that a row is missing
	r, err = s.publish(it)
	return r, err == nil, err
}

// stage writes the body under a staged name. It returns an error if size or digest differ
// from the announced ones.
func (s *Store) stage(it stagedUpload, body io.Reader) (err error) {
	path := s.staged(it.name)
	f, err := s.o.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return fmt.Errorf("stage upload: %w", err)
	}
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = fmt.Errorf("stage upload: %w", closing)
		}
	}()
	got, err := s.copy(f, body, it.row.Size)
	if err != nil {
		return err
	}
	if got != it.row.Digest {
		return fmt.Errorf("%w: got %s", receiver.ErrDigest, got)
	}
	if err := s.setAttrs(f, got, it.row.Commit); err != nil {
		return fmt.Errorf("stage upload: %w", err)
	}
	if it.row.Size < syncInlineMin {
		return nil
	}
	defer s.busy.begin(s.o.Now())()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("make upload durable: %w", err)
	}
	return nil
}

// copy writes exactly size bytes and returns their digest.
func (s *Store) copy(f disk.File, body io.Reader, size int64) (ident.Digest, error) {
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	sum := sha256.New()
	for n, begun := int64(0), int64(0); n < size; {
		part := buf[:min(int64(bufferSize), size-n)]
		got, err := io.ReadFull(body, part)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", &receiver.BodyError{Err: fmt.Errorf("after %d of %d bytes: %w", n+int64(got), size, err)}
		}
		sum.Write(part)
		if _, err := f.Write(part); err != nil {
			return "", fmt.Errorf("stage upload: %w", err)
		}
		if n += int64(got); n-begun >= writebackEvery {
			if err := disk.BeginWrite(f, begun, n-begun); err != nil {
				return "", fmt.Errorf("stage upload: %w", err)
			}
			begun = n
		}
	}
	// Wait for the proper end of the body: a proxy may break off even after the announced
	// number of bytes.
	switch n, err := io.ReadFull(body, buf[:1]); {
	case n > 0:
		return "", &receiver.BodyError{Err: fmt.Errorf("more than %d bytes", size)}
	case !errors.Is(err, io.EOF):
		return "", &receiver.BodyError{Err: fmt.Errorf("read after %d bytes: %w", size, err)}
	}
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), nil
}

// linkNew links a staged upload to its final name, or returns the row of what is stored
// there, or was and is archived.
func (s *Store) linkNew(it stagedUpload) (r receiver.Entry, stored bool, err error) {
	k := it.row.Key()
	if r, stored, err = Archived(s.o.FS, s.o.DataDir, k); stored || err != nil {
		return r, stored, err
	}
	if err = s.link(it); !errors.Is(err, fs.ErrExist) {
		return r, false, err
	}
	if r, stored, err = s.lookupTarball(k); err == nil && !stored {
		err = fmt.Errorf("publish episode: %s was removed meanwhile", s.path(k))
	}
	return r, stored, err
}

// link links a staged upload to its final name.
func (s *Store) link(it stagedUpload) error {
	k := it.row.Key()
	err := s.o.FS.Link(s.staged(it.name), s.path(k))
	if errors.Is(err, fs.ErrNotExist) { // the host's first episode
		if err = s.o.FS.Mkdir(s.hostDir(k.Host), dirPerm); err == nil || errors.Is(err, fs.ErrExist) {
			err = s.o.FS.Link(s.staged(it.name), s.path(k))
		}
	}
	if err != nil {
		return fmt.Errorf("publish episode: %w", err)
	}
	return nil
}

// publish completes a linked upload: it makes the tarball and the row durable, and
// removes the staged name.
func (s *Store) publish(it stagedUpload) (receiver.Entry, error) {
	err := s.commits.add(&it)
	return s.published(it, err)
}

// published completes an upload after its commit.
func (s *Store) published(it stagedUpload, err error) (receiver.Entry, error) {
	switch {
	case err != nil && it.durable:
		// Leave it, because its row may have reached the disk.
		s.setStaged(it)
		return it.row, err
	case err != nil:
		return it.row, errors.Join(err, s.rollback(it))
	}
	s.done(it)
	return it.row, nil
}

// done removes the staged name of an episode that has its row.
func (s *Store) done(it stagedUpload) {
	s.dropStaged(it.row.Key())
	if err := s.discard(it.name); err != nil {
		// The episode is safe: the next start finds the row and removes the name.
		s.o.Log.Warn("cannot remove a staged name", "host", it.row.Host, "episode", it.row.Episode, "err", err)
	}
}

func (s *Store) discard(name string) error {
	if err := s.o.FS.Remove(s.staged(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove staged upload: %w", err)
	}
	return nil
}
