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
const bufferSize = 128 << 10

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
	attrs, ok := s.o.FS.(disk.Attrs)
	if ok {
		b, err := attrs.Attr(path, digestAttr)
		if err == nil {
			if d, err := ident.ParseDigest(string(b)); err == nil {
				return d, nil
			}
		} else if !errors.Is(err, errors.ErrUnsupported) {
			return "", err
		}
	}
	d, err := s.hash(path)
	if err == nil && ok {
		if err := attrs.SetAttr(path, digestAttr, []byte(d)); err != nil {
			s.o.Log.Debug("digest is not kept beside the file", "path", path, "err", err)
		}
	}
	return d, err
}

// setAttrs keeps digest and commit beside a tarball, where the file system can.
func (s *Store) setAttrs(path string, d ident.Digest, c ident.Commit) error {
	attrs, ok := s.o.FS.(disk.Attrs)
	if !ok {
		return nil
	}
	err := errors.Join(attrs.SetAttr(path, digestAttr, []byte(d)), attrs.SetAttr(path, commitAttr, []byte(c)))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// commit returns the commit that a stored tarball was recorded by, if known.
func (s *Store) commit(path string) ident.Commit {
	if attrs, ok := s.o.FS.(disk.Attrs); ok {
		if b, err := attrs.Attr(path, commitAttr); err == nil {
			if c, err := ident.ParseCommit(string(b)); err == nil {
				return c
			}
		}
	}
	return ""
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
