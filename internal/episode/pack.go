package episode

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"cis490/internal/ident"
)

// ReasonFile says, beside the files of a quarantined episode, why it was set
// aside. It is never packed.
const ReasonFile = "quarantine_reason.json"

// Unpackable tells that an episode's directory cannot become a tarball, through
// no fault of the disk or the program: it is to be set aside.
type Unpackable struct {
	File string // within the directory
	Why  string
}

// Error names the file and the reason.
func (e *Unpackable) Error() string { return fmt.Sprintf("pack episode: %q %s", e.File, e.Why) }

// Packed describes a tarball.
type Packed struct {
	Digest ident.Digest
	Size   int64 // bytes of the tarball
}

// Packer packs one episode at a time and keeps its buffers between them.
type Packer struct {
	z   *frames
	buf []byte
}

// NewPacker returns a packer.
func NewPacker() (*Packer, error) {
	z, err := newFrames()
	if err != nil {
		return nil, fmt.Errorf("make packer: %w", err)
	}
	return &Packer{z: z, buf: make([]byte, 256<<10)}, nil
}

// Pack writes the tarball of the directory to w: every regular file below id/,
// sorted, without owner, rights or times, so that it depends on names and
// content alone. A symlink, a special file, a file that cannot be read or that
// changes meanwhile is an *Unpackable. moved, if set, is told of each read.
func (p *Packer) Pack(ctx context.Context, w io.Writer, dir string, id ident.EpisodeID, moved func(n int)) (Packed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Packed{}, fmt.Errorf("pack episode: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	sum := &summed{w: w, h: sha256.New()}
	p.z.reset(sum)
	t := &packing{Packer: p, ctx: ctx, root: root, out: tar.NewWriter(p.z), moved: moved}
	if err := t.dir(".", string(id), 0); err != nil {
		return Packed{}, err
	}
	if err := errors.Join(t.out.Close(), p.z.Close()); err != nil {
		return Packed{}, fmt.Errorf("pack episode: %w", err)
	}
	return Packed{Digest: ident.Digest(hex.EncodeToString(sum.h.Sum(nil))), Size: sum.n}, nil
}

// packing is one run of Pack.
type packing struct {
	*Packer
	ctx   context.Context
	root  *os.Root
	out   *tar.Writer
	moved func(int)
}

// maxDepth bounds nested directories; a recorder makes none.
const maxDepth = 8

func (t *packing) dir(name, as string, depth int) error {
	if depth > maxDepth {
		return &Unpackable{name, "is nested too deep"}
	}
	entries, err := fs.ReadDir(t.root.FS(), name) // sorted by name
	if err != nil {
		return Unreadable(name, err)
	}
	for _, e := range entries {
		if depth == 0 && e.Name() == ReasonFile {
			continue
		}
		from, to := path.Join(name, e.Name()), path.Join(as, e.Name())
		switch {
		case e.IsDir():
			err = t.dir(from, to, depth+1)
		case e.Type().IsRegular():
			err = t.file(from, to)
		case e.Type()&fs.ModeSymlink != 0:
			err = &Unpackable{from, "is a symlink"}
		default:
			err = &Unpackable{from, "is neither a file nor a directory (" + e.Type().String() + ")"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *packing) file(name, as string) error {
	// Not blocking, should it have become a pipe since it was listed.
	f, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Unreadable(name, err)
	}
	defer func() { _ = f.Close() }() // only read
	before, err := f.Stat()
	if err != nil {
		return Unreadable(name, err)
	}
	if at, err := t.root.Lstat(name); err != nil || !before.Mode().IsRegular() || !os.SameFile(at, before) {
		return &Unpackable{name, "was replaced while it was packed"}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: as, Size: before.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := t.out.WriteHeader(h); err != nil {
		return fmt.Errorf("pack episode: %w", err)
	}
	if err := t.copy(f, name, before.Size()); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return Unreadable(name, err)
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return &Unpackable{name, "changed while it was packed"}
	}
	return nil
}

func (t *packing) copy(f io.Reader, name string, left int64) error {
	for left > 0 {
		if err := context.Cause(t.ctx); err != nil {
			return fmt.Errorf("pack episode: %w", err)
		}
		n, err := f.Read(t.buf[:min(left, int64(len(t.buf)))])
		if n > 0 {
			left -= int64(n)
			if _, err := t.out.Write(t.buf[:n]); err != nil {
				return fmt.Errorf("pack episode: %w", err)
			}
			if t.moved != nil {
				t.moved(n)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && left > 0:
			return &Unpackable{name, "shrank while it was packed"}
		case err != nil && !errors.Is(err, io.EOF):
			return Unreadable(name, err)
		}
	}
	return nil
}

// Unreadable tells faults of a file, which make an *Unpackable, from those of the
// whole program, which are no reason to set an episode aside.
func Unreadable(name string, err error) error {
	for _, all := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, all) {
			return fmt.Errorf("pack episode: %w", err)
		}
	}
	why := err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		why = p.Err
	}
	return &Unpackable{name, "cannot be read: " + why.Error()}
}

// summed counts and hashes what is written.
type summed struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *summed) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	_, _ = s.h.Write(b[:n]) // never fails: hash.Hash's word
	return n, err
}
