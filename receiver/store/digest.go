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

// bufferSize is the size of an upload's buffer.
const bufferSize = 64 << 10

// buffers are the buffers of uploads.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[bufferSize]byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p
	}
	return new([bufferSize]byte)
}

func (b *buffers) put(p *[bufferSize]byte) { b.pool.Put(p) }

// digest returns a stored tarball's digest from its attribute or, without one (another
// file system, or a copy that lost it), by hashing.
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

// commit returns the commit of a stored tarball, if known.
func (s *Store) commit(path string) ident.Commit {
	_, c, _ := s.attrs(path)
	return c
}

// attrs returns digest and commit from a tarball's attribute; empty if it has none.
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
	c, _ := ident.ParseCommit(hex.EncodeToString(b[sha256.Size:])) // empty if it is missing
	return ident.Digest(hex.EncodeToString(b[:sha256.Size])), c, nil
}

// setAttrs stores digest and commit in a tarball's attribute, if the file system can: as
// bytes, which fit into an inode.
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
