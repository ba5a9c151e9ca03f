package episode

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// Inspect reads the tarball of an episode and calls visit with every file, by its name
// within the episode, without writing anything. Names that leave the episode, other kinds
// of entries, and tarballs over the limits are errors.
func Inspect(r io.Reader, id ident.EpisodeID, visit func(name string, size int64, content io.Reader) error) error {
	return inspect(r, id, FormatLimits(), visit)
}

func inspect(r io.Reader, id ident.EpisodeID, limits Limits, visit func(name string, size int64, content io.Reader) error) error {
	i, err := NewInspector(limits)
	if err != nil {
		return err
	}
	defer i.Close()
	return i.Inspect(r, id, visit)
}

// maxWindow bounds the decoder's memory.
const maxWindow = 8 << 20

// Inspector inspects tarballs one after the other. It keeps its buffers between them.
type Inspector struct {
	z      *zstd.Decoder
	limits Limits
}

// NewInspector returns an Inspector for episodes within limits.
func NewInspector(limits Limits) (*Inspector, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(limits.Bytes, maxWindow))))
	if err != nil {
		return nil, fmt.Errorf("read tarball: %w", err)
	}
	return &Inspector{z, limits}, nil
}

// Close releases the buffers.
func (i *Inspector) Close() { i.z.Close() }

// Inspect is the function Inspect, with the Inspector's limits.
func (i *Inspector) Inspect(r io.Reader, id ident.EpisodeID, visit func(name string, size int64, content io.Reader) error) error {
	z := i.z
	if err := z.Reset(r); err != nil {
		return fmt.Errorf("read tarball: %w", err)
	}
	t := tar.NewReader(z)
	seen := map[string]bool{}
	for sum := (&tally{Limits: i.limits}); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// Read what follows the end mark, too: it was shipped with the rest.
			if n, err := io.Copy(io.Discard, io.LimitReader(z, sum.Bytes-sum.bytes)); err != nil {
				return fmt.Errorf("read tarball after %d bytes beyond its end: %w", n, err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tarball: %w", err)
		}
		name, ok := strings.CutPrefix(h.Name, string(id)+"/")
		if !ok || !filepath.IsLocal(name) || path.Clean(name) != name || seen[name] {
			return fmt.Errorf("read tarball: entry %.120q is not a file of episode %s, or is there twice", h.Name, id)
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("read tarball: entry %.120q is not a regular file", h.Name)
		}
		if why := sum.add(name, h.Size); why != "" {
			return fmt.Errorf("read tarball: entry %.120q %s", name, why)
		}
		seen[name] = true
		if err := visit(name, h.Size, t); err != nil {
			return err
		}
	}
}

// spare is how many bytes Unpack leaves free for others.
const spare = 64 << 20

// Unpack writes the files of a tarball into dir, which must exist, and never outside of it;
// it does not overwrite files. It stops when the context ends.
func Unpack(ctx context.Context, fsys disk.FS, r io.Reader, id ident.EpisodeID, dir string) error {
	return UnpackWithin(ctx, fsys, r, id, FormatLimits(), dir)
}

// UnpackWithin is Unpack with limits.
func UnpackWithin(ctx context.Context, fsys disk.FS, r io.Reader, id ident.EpisodeID, limits Limits, dir string) error {
	return inspect(r, id, limits, func(name string, size int64, content io.Reader) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if s, ok := fsys.(disk.Space); ok {
			if free, err := s.Free(dir); err == nil && free-size < spare {
				return fault.Fix(fmt.Errorf("unpack %q: %d bytes do not fit into %s, where %d are free", name, size, dir, free),
					"TMPDIR=/var/tmp cis490 …   # or another folder with room")
			}
		}
		to := path.Join(dir, name)
		if err := disk.MkdirAll(fsys, path.Dir(to), 0o755); err != nil {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
		f, err := fsys.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
		_, err = io.Copy(f, &until{ctx, content})
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
		return nil
	})
}

// until is a reader that fails once a context has ended.
type until struct {
	ctx context.Context
	io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}
