package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cis490/internal/ident"
	"cis490/receiver/index"
)

// What keeps an upload from being stored, beside the disk's own errors.
var (
	ErrConflict = errors.New("another digest is stored under this episode")
	ErrDigest   = errors.New("body does not match its digest")
	ErrFull     = errors.New("disk is full (a reserve is kept)")
)

// BodyError is a fault in reading the body: the sender's or the network's, not
// the disk's.
type BodyError struct{ Err error }

// Error tells what was wrong with the body.
func (e *BodyError) Error() string { return "read body: " + e.Err.Error() }

// Unwrap returns the reader's own error.
func (e *BodyError) Unwrap() error { return e.Err }

// Upload is what a host says of the tarball it sends.
type Upload struct {
	Host    ident.Host
	Episode ident.EpisodeID
	Digest  ident.Digest
	Size    int64 // bytes; the body must have exactly that many
	Commit  ident.Commit
}

func (u Upload) key() index.Key { return index.Key{Host: u.Host, Episode: u.Episode} }

// Receive takes an upload in the full order of durability. admit is asked after
// the body is durable and before it is published; its error ends the upload.
// created is false where another upload of the same content was first. On an
// error nothing is stored, unless only the row is missing: then the next try
// finds the tarball.
func (s *Store) Receive(u Upload, body io.Reader, admit func() error) (r index.Row, created bool, err error) {
	defer func() {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
	}()
	promise, err := s.promise(u.Size)
	if err != nil {
		return r, false, err
	}
	defer promise.end()
	if u.Size <= s.o.Journaled {
		return s.receiveSmall(u, &promised{body, promise}, admit)
	}
	it := newIntent(u)
	defer s.discardUnless(&it, &err)
	if err := s.stage(it.name, u, &promised{body, promise}); err != nil {
		return r, false, err
	}
	if err := admit(); err != nil {
		return r, false, err
	}
	defer s.keys.lock(u.key())()
	defer s.busy.begin(s.o.Now())()
	if r, stored, err := s.stored(u); stored || err != nil {
		return r, false, err
	}
	r, err = s.publish(&it)
	return r, err == nil, err
}

// receiveSmall takes an upload by way of the journal.
func (s *Store) receiveSmall(u Upload, in io.Reader, admit func() error) (r index.Row, created bool, err error) {
	body, err := s.readBody(u, in)
	if err != nil {
		return r, false, err
	}
	if err := admit(); err != nil {
		return r, false, err
	}
	defer s.keys.lock(u.key())()
	defer s.busy.begin(s.o.Now())()
	if r, stored, err := s.stored(u); stored || err != nil {
		return r, false, err
	}
	r, err = s.journal.add(u, body)
	if errors.Is(err, errJournalFull) {
		it := newIntent(u)
		defer s.discardUnless(&it, &err)
		if err := s.stage(it.name, u, bytes.NewReader(body)); err != nil {
			return r, false, err
		}
		r, err = s.publish(&it)
	}
	return r, err == nil, err
}

// stored looks an upload up, with its key's lock held; ErrConflict tells that
// something else is stored.
func (s *Store) stored(u Upload) (r index.Row, stored bool, err error) {
	r, stored, err = s.lookup(u.key())
	if err == nil && stored && r.Digest != u.Digest {
		err = ErrConflict
	}
	return r, stored, err
}

// publish links a staged upload to its name and brings it to its end.
func (s *Store) publish(it *intent) (index.Row, error) {
	if err := s.makeHostDir(it.row.Host); err != nil {
		return it.row, err
	}
	if err := s.o.FS.Link(s.staged(it.name), s.path(it.row.Key())); err != nil {
		return it.row, fmt.Errorf("publish episode: %w", err)
	}
	// From here on the staged name is the proof that a row is owed.
	it.owned, it.linked = true, true
	s.setIntent(*it)
	return s.finish(*it, false)
}

// discardUnless removes an upload's staged name; published, it is finish's to
// remove.
func (s *Store) discardUnless(it *intent, err *error) {
	if !it.owned {
		*err = errors.Join(*err, s.discard(it.name))
	}
}

// stage writes the body under a staged name, and makes it durable if it is what
// was announced.
func (s *Store) stage(name string, u Upload, body io.Reader) (err error) {
	path := s.staged(name)
	f, err := s.o.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return fmt.Errorf("stage upload: %w", err)
	}
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = fmt.Errorf("stage upload: %w", closing)
		}
	}()
	got, err := s.copy(f, body, u.Size)
	if err != nil {
		return err
	}
	if got != u.Digest {
		return fmt.Errorf("%w: got %s", ErrDigest, got)
	}
	if err := s.setAttrs(path, u.Digest, u.Commit); err != nil {
		return fmt.Errorf("stage upload: %w", err)
	}
	defer s.busy.begin(s.o.Now())()
	// The staged name too: were the tarball's name to survive a power cut alone,
	// nothing would tell that its row may be missing. Side by side, as most file
	// systems commit both at once.
	named := make(chan error, 1)
	go func() { named <- s.syncDir(filepath.Join(s.o.DataDir, StagedDir)) }()
	if err := errors.Join(f.Sync(), <-named); err != nil {
		return fmt.Errorf("make upload durable: %w", err)
	}
	return nil
}

// copy writes exactly size bytes and returns their digest.
func (s *Store) copy(w io.Writer, body io.Reader, size int64) (ident.Digest, error) {
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	sum := sha256.New()
	var n int64
	for n < size {
		part := buf[:min(int64(bufferSize), size-n)]
		got, err := body.Read(part)
		n += int64(got)
		sum.Write(part[:got])
		if _, err := w.Write(part[:got]); err != nil {
			return "", fmt.Errorf("stage upload: %w", err)
		}
		if n == size {
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", &BodyError{fmt.Errorf("after %d of %d bytes: %w", n, size, err)}
		}
	}
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), nil
}

func (s *Store) discard(name string) error {
	if err := s.o.FS.Remove(s.staged(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove staged upload: %w", err)
	}
	return nil
}
