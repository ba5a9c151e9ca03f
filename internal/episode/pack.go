package episode

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// ReasonFile is the file beside a quarantined episode with the reason. Older versions wrote
// it into the episode's own folder, so it is never packed.
const ReasonFile = "quarantine_reason.json"

// Unpackable reports that an episode's directory cannot become a tarball, which is not the
// fault of the disk or the program: quarantine it.
type Unpackable struct {
	File string // within the directory
	Why  string
}

// Error names the file and the reason.
func (e *Unpackable) Error() string { return fmt.Sprintf("pack episode: %q %s", e.File, e.Why) }

// Larger reports that an episode has more bytes than Source.Most.
type Larger struct{ Most int64 }

// Error names the limit.
func (e *Larger) Error() string { return fmt.Sprintf("pack episode: more than %d bytes", e.Most) }

// Source is what a Packer reads: an episode's directory, whose owner may be hostile and
// change it at any time.
type Source struct {
	FS    disk.FS
	Dir   string
	ID    ident.EpisodeID
	Most  int64       // bytes; beyond them Pack returns a *Larger. 0: MaxBytes
	Moved func(n int) // called with the bytes of each read; may be nil
}

// Packed describes a tarball.
type Packed struct {
	Digest ident.Digest
	// Content is the digest of the tar stream before compression. It depends on the
	// files alone, not on the version of the encoder.
	Content ident.Digest
	Size    int64 // bytes of the tarball
	Meta    Meta  // as packed
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

// Pack writes the tarball of a directory to w: every file below id/, sorted, without owner,
// mode or times, so that it depends on names and content alone. It returns an *Unpackable
// for what Inspect would refuse, for links and special files, for files with other names or
// another owner, for files that cannot be read or that change meanwhile, and for a
// meta.json that does not describe a complete episode of this id. Limits are checked before
// anything is read.
func (p *Packer) Pack(ctx context.Context, w io.Writer, src Source) (Packed, error) {
	s, err := surveyOf(src)
	if err != nil {
		return Packed{}, err
	}
	sum := &summed{w: w, h: sha256.New()}
	p.z.reset(sum)
	t := &packing{Packer: p, ctx: ctx, survey: s, out: tar.NewWriter(p.z)}
	for _, f := range s.files {
		if err := t.file(f); err != nil {
			return Packed{}, err
		}
	}
	if err := errors.Join(t.out.Close(), p.z.Close()); err != nil {
		return Packed{}, fmt.Errorf("pack episode: %w", err)
	}
	m, err := t.metaOf()
	return Packed{Digest: digest(sum.h), Content: digest(p.z.content), Size: sum.n, Meta: m}, err
}

func digest(h hash.Hash) ident.Digest { return ident.Digest(hex.EncodeToString(h.Sum(nil))) }

// packing is one run of Pack.
type packing struct {
	*Packer
	*survey
	ctx  context.Context
	out  *tar.Writer
	meta bytes.Buffer // meta.json, as packed
}

func (t *packing) file(s surveyed) error {
	// Do not block: it may have become a pipe since it was listed.
	f, err := t.FS.OpenFile(path.Join(t.Dir, s.name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Unreadable(s.name, err)
	}
	defer func() { _ = f.Close() }() // only read
	now, err := f.Stat()
	if err != nil {
		return Unreadable(s.name, err)
	}
	if !disk.SameFile(s.info, now) || !same(s.info, now) {
		return &Unpackable{s.name, "was replaced or changed while the episode was packed"}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: string(t.ID) + "/" + s.name, Size: now.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := t.out.WriteHeader(h); err != nil {
		return fmt.Errorf("pack episode: %w", err)
	}
	w := io.Writer(t.out)
	if s.name == MetaFile && now.Size() <= maxMeta {
		w = io.MultiWriter(t.out, &t.meta)
	}
	if err := t.copy(w, f, s.name, now.Size()); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return Unreadable(s.name, err)
	}
	if !same(now, after) {
		return &Unpackable{s.name, "changed while it was packed"}
	}
	return nil
}

// same reports whether a file is unchanged between two stats. Its owner can set the
// modification time back, but not the change time.
func same(a, b fs.FileInfo) bool {
	return a.Mode() == b.Mode() && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) &&
		disk.Changed(a).Equal(disk.Changed(b)) && disk.LinkCount(a) == disk.LinkCount(b)
}

func (t *packing) copy(w io.Writer, f io.Reader, name string, left int64) error {
	for left > 0 {
		if err := context.Cause(t.ctx); err != nil {
			return fmt.Errorf("pack episode: %w", err)
		}
		n, err := f.Read(t.buf[:min(left, int64(len(t.buf)))])
		if n > 0 {
			left -= int64(n)
			if _, err := w.Write(t.buf[:n]); err != nil {
				return fmt.Errorf("pack episode: %w", err)
			}
			if t.Moved != nil {
				t.Moved(n)
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

// metaOf decodes the meta.json that was packed, not the one that is on disk now.
func (t *packing) metaOf() (Meta, error) {
	var m Meta
	why := ""
	switch err := json.Unmarshal(t.meta.Bytes(), &m); {
	case t.meta.Len() == 0:
		why = fmt.Sprintf("is missing, empty, or larger than %d bytes", maxMeta)
	case err != nil:
		why = "cannot be read: " + err.Error()
	case m.Episode != t.ID:
		why = fmt.Sprintf("is of episode %q", m.Episode)
	case m.Verdict == Abandoned:
		why = "says that the recording was abandoned"
	}
	if why != "" {
		return Meta{}, &Unpackable{MetaFile, why}
	}
	return m, nil
}

// Unreadable returns an *Unpackable for an error of the file. Errors of the whole program,
// such as too many open files, are not a reason to quarantine an episode and stay errors.
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
	_, _ = s.h.Write(b[:n]) // a hash.Hash never returns an error
	return n, err
}
