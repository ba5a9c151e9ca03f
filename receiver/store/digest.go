package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// bufferSize is what one upload holds in memory.
const bufferSize = 64 << 10

// buffers hands out what uploads copy through.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[bufferSize]byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p
	}
	return new([bufferSize]byte)
}

func (b *buffers) put(p *[bufferSize]byte) { b.pool.Put(p) }

// digest returns a stored tarball's digest: from its attribute, or by hashing
// it where there is none (another file system, a copy that lost it).
func (s *Store) digest(path string) (ident.Digest, error) {
	d, _, err := s.attrs(path)
	if err != nil || d != "" {
		return d, err
	}
	if d, err = s.hash(path); err != nil {
		return "", err
	}
	f, err := s.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err == nil {
		err = errors.Join(s.setAttrs(f, d, ""), f.Close())
	}
	if err != nil {
		s.o.Log.Debug("digest is not kept beside the file", "path", path, "err", err)
	}
	return d, nil
}

// commit returns the commit that a stored tarball was recorded by, if known.
func (s *Store) commit(path string) ident.Commit {
	_, c, _ := s.attrs(path)
	return c
}

// attrs returns digest and commit as they are kept beside a tarball, each empty
// where it is not.
func (s *Store) attrs(path string) (ident.Digest, ident.Commit, error) {
	attrs, ok := s.o.FS.(disk.Attrs)
	if !ok {
		return "", "", nil
	}
	b, err := attrs.Attr(path, attr)
	if errors.Is(err, errors.ErrUnsupported) {
		return "", "", nil
	}
	if err != nil || len(b) < sha256.Size {
		return "", "", err
	}
	c, _ := ident.ParseCommit(hex.EncodeToString(b[sha256.Size:])) // empty if it is not there
	return ident.Digest(hex.EncodeToString(b[:sha256.Size])), c, nil
}

// setAttrs keeps digest and commit beside a tarball, where the file system can:
// their bytes one after the other, as that fits into an inode and costs no block.
func (s *Store) setAttrs(f disk.File, d ident.Digest, c ident.Commit) error {
	attrs, ok := s.o.FS.(disk.Attrs)
	if !ok {
		return nil
	}
	b, err := hex.DecodeString(string(d) + string(c))
	if err == nil {
		err = attrs.SetAttr(f, attr, b)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func (s *Store) hash(path string) (ident.Digest, error) {
	f, err := s.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	sum := sha256.New()
	_, err = io.CopyBuffer(sum, struct{ io.Reader }{f}, buf[:])
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), nil
}
