package s3

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/store"
)

// inMemory bounds bodies that are kept in memory, in bytes.
const inMemory = 1 << 20

// copyBuffer is the memory of an upload that is spooled to a file, in bytes.
const copyBuffer = 64 << 10

// spool stores bodies until the object store has them. They need not survive a crash.
type spool struct {
	fs       disk.FS
	dir      string // the next start removes *.partial from this folder
	reserve  int64
	promised atomic.Int64 // bytes of bodies that are being spooled or sent
	early    func(u receiver.Upload, body io.ReaderAt) *early
	small    sync.Pool // of *[inMemory]byte
	buffers  sync.Pool // of *[copyBuffer]byte
}

func newSpool(o Options) *spool {
	return &spool{
		early: func(receiver.Upload, io.ReaderAt) *early { return nil },
		fs:    o.FS, dir: filepath.Join(o.Dir, store.StagedDir), reserve: o.Reserve,
		small:   sync.Pool{New: func() any { return new([inMemory]byte) }},
		buffers: sync.Pool{New: func() any { return new([copyBuffer]byte) }},
	}
}

// spooled is a whole body.
type spooled struct {
	io.ReaderAt
	early *early
	end   func(sent bool) error // releases the body's resources
}

// take reads a body of exactly the announced length.
func (s *spool) take(u receiver.Upload, body io.Reader) (_ *spooled, err error) {
	if u.Size <= inMemory {
		if err := s.room(); err != nil { // its claim and its row are on the disk, too
			return nil, err
		}
		return s.takeSmall(u, body)
	}
	defer func() {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: %w", receiver.ErrFull, err)
		}
	}()
	s.promised.Add(u.Size)
	release := func() { s.promised.Add(-u.Size) }
	if err := s.room(); err != nil {
		release()
		return nil, err
	}
	f, err := s.file()
	if err != nil {
		release()
		return nil, fmt.Errorf("spool upload: %w", err)
	}
	early := s.early(u, f)
	sp := &spooled{f, early, func(bool) error {
		early.abandon()
		release()
		return f.Close()
	}}
	buf, _ := s.buffers.Get().(*[copyBuffer]byte)
	defer s.buffers.Put(buf)
	sum := sha256.New()
	for left := u.Size; left > 0 && err == nil; {
		part := buf[:min(left, copyBuffer)]
		if err = readFull(body, part, u.Size-left, u.Size); err == nil {
			sum.Write(part)
			if _, err = f.Write(part); err != nil {
				err = fmt.Errorf("spool upload: %w", err)
			}
			early.grew(len(part))
		}
		left -= int64(len(part))
	}
	if err == nil {
		err = ended(body, u, sum.Sum(nil))
	}
	if err != nil {
		return nil, errors.Join(err, sp.end(false))
	}
	return sp, nil
}

func (s *spool) takeSmall(u receiver.Upload, body io.Reader) (*spooled, error) {
	buf, _ := s.small.Get().(*[inMemory]byte)
	part := buf[:u.Size]
	err := readFull(body, part, 0, u.Size)
	if err == nil {
		sum := sha256.Sum256(part)
		err = ended(body, u, sum[:])
	}
	if err != nil {
		s.small.Put(buf)
		return nil, err
	}
	return &spooled{bytes.NewReader(part), nil, func(sent bool) error {
		if sent { // otherwise an abandoned request may still read it
			s.small.Put(buf)
		}
		return nil
	}}, nil
}

func readFull(body io.Reader, part []byte, before, size int64) error {
	n, err := io.ReadFull(body, part)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return &receiver.BodyError{Err: fmt.Errorf("after %d of %d bytes: %w", before+int64(n), size, err)}
	}
	return nil
}

// ended waits for the proper end of a body, because a proxy may break off even after the
// announced number of bytes, and compares its digest.
func ended(body io.Reader, u receiver.Upload, sum []byte) error {
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return &receiver.BodyError{Err: fmt.Errorf("the body has more than %d bytes", u.Size)}
	case !errors.Is(err, io.EOF):
		return &receiver.BodyError{Err: fmt.Errorf("no end after %d bytes: %w", u.Size, err)}
	}
	if got := ident.Digest(hex.EncodeToString(sum)); got != u.Digest {
		return fmt.Errorf("%w: got %s", receiver.ErrDigest, got)
	}
	return nil
}

// file creates a file without a name.
func (s *spool) file() (disk.File, error) {
	salt := make([]byte, 8)
	_, _ = rand.Read(salt) // never fails
	path := filepath.Join(s.dir, hex.EncodeToString(salt)+disk.Partial)
	f, err := s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.fs.Remove(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// room returns receiver.ErrFull if the promised bytes do not fit above the reserve. Bytes
// that are spooled already count twice, so it may return the error too early.
func (s *spool) room() error {
	space, ok := s.fs.(disk.Space)
	if !ok {
		return nil
	}
	free, err := space.Free(s.dir)
	if err != nil {
		return err
	}
	if left := free - s.promised.Load(); left < s.reserve {
		return fmt.Errorf("%w: %d bytes would be left of a reserve of %d", receiver.ErrFull, left, s.reserve)
	}
	return nil
}
