package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

// episodes reads tarballs. Any process may use it.
type episodes struct{ o Options }

// Open opens the object of an episode's row.
func (e episodes) Open(k receiver.Key) (receiver.Tarball, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t, err := e.open(ctx, k)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open %s/%s: %w", k.Host, k.Episode, Explain(err))
	}
	t.cancel = cancel
	return t, nil
}

// OpenRow gets the object, whose key follows from the row, with one request.
func (e episodes) OpenRow(row receiver.Entry) (receiver.Tarball, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &tarball{o: e.o, ctx: ctx, cancel: cancel, key: keyOf(row), size: row.Size}
	if err := t.request(); err != nil {
		cancel()
		return nil, fmt.Errorf("open %s/%s: %w", row.Host, row.Episode, Explain(err))
	}
	return t, nil
}

func (e episodes) open(ctx context.Context, k receiver.Key) (*tarball, error) {
	find, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if e.o.Base.Rows != nil { // an object without a row is not stored
		row, found, err := e.o.Base.Rows.Find(find, k)
		if err == nil && (!found || row.Archived) {
			err = fs.ErrNotExist
		}
		return &tarball{o: e.o, ctx: ctx, key: keyOf(row), size: row.Size}, err
	}
	all, err := e.o.contents(find, k)
	if err != nil {
		return nil, err
	}
	found := len(all) == 1
	if len(all) > 1 {
		if all[0], found, err = e.o.fromIndex(k, all); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, fs.ErrNotExist
	}
	return &tarball{o: e.o, ctx: ctx, key: keyOf(all[0]), size: all[0].Size}, nil
}

// Holders asks for rows, if they say what is stored. Otherwise it lists one key of each host, or
// the folders of all hosts if that takes fewer requests.
func (e episodes) Holders(hosts []ident.Host) (have []ident.Host, err error) {
	const few = 10
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	if e.o.Base.Rows != nil {
		return e.o.Base.Rows.Holders(ctx, hosts)
	}
	if len(hosts) <= few {
		for _, h := range hosts {
			all, err := e.o.Bucket.Few(ctx, prefixOf(h), 1)
			if err != nil {
				return nil, err
			}
			if len(all) > 0 {
				have = append(have, h)
			}
		}
		return have, nil
	}
	asked := map[string]ident.Host{}
	for _, h := range hosts {
		asked[prefixOf(h)] = h
	}
	for folder, err := range e.o.Bucket.Folders(ctx, root) {
		if err != nil {
			return nil, err
		}
		if h, ok := asked[folder]; ok {
			have = append(have, h)
		}
	}
	return have, nil
}

// Free returns the free space of the data folder, because S3 has no request for a bucket's.
func (e episodes) Free() (int64, error) { return e.o.Base.Episodes.Free() }

// List lists the bucket.
func (e episodes) List(ctx context.Context) iter.Seq2[receiver.Stored, error] {
	return func(yield func(receiver.Stored, error) bool) {
		var last receiver.Stored
		for x, err := range e.o.Bucket.List(ctx, root, "") {
			if err != nil {
				yield(receiver.Stored{}, err)
				return
			}
			entry, ok := entryOf(x)
			if !ok || strings.HasSuffix(x.Key, disk.Partial) {
				continue
			}
			s := receiver.Stored{Key: entry.Key(), Size: entry.Size, At: entry.ReceivedAt}
			if s.Key == last.Key { // another content, superseded or without a row yet
				continue
			}
			if last = s; !yield(s, nil) {
				return
			}
		}
	}
}

// sampled is how many of the newest rows are checked.
const sampled = 50

// Check compares the newest rows with their objects, or all rows with all objects.
func (e episodes) Check(ctx context.Context, newest int, now time.Time) (c receiver.Checked, err error) {
	if newest == 0 {
		return e.checkAll(ctx)
	}
	for f, err := range e.o.Base.Index.Before(receiver.Query{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return c, err
		}
		if f.At.Before(now.Add(-24*time.Hour)) || c.Rows >= min(newest, sampled) {
			break
		}
		if !f.Match || f.Row.Archived {
			continue
		}
		c.Rows++
		o, err := e.o.Bucket.Stat(ctx, keyOf(f.Row))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c, Explain(answered(err))
		}
		if err == nil && o.Size == f.Row.Size {
			continue
		}
		if _, archived, err := e.o.archived(ctx, f.Row.Key()); err == nil && archived {
			continue
		}
		if c.Lost++; c.Example == "" {
			c.Example = fmt.Sprintf("%s/%s", f.Row.Host, f.Row.Episode)
		}
	}
	return c, nil
}

// tarball reads an object by ranges.
type tarball struct {
	o      Options
	ctx    context.Context //nolint:containedctx // of an open file
	cancel context.CancelFunc
	key    string
	size   int64
	at     int64
	r      io.ReadCloser // reads from at to end; nil: not open
	end    int64
}

// firstRead is what the first request asks for, in bytes. A reader that stops early, at
// meta.json or at damage, has then not made the store send the whole tarball.
const firstRead = 1 << 20

// request asks for what Read reads next.
func (t *tarball) request() (err error) {
	n := int64(-1)
	t.end = t.size
	if t.at == 0 && t.size > firstRead {
		n, t.end = firstRead, firstRead
	}
	t.r, err = t.o.Bucket.Get(t.ctx, t.key, t.at, n)
	return err
}

// Read implements io.Reader.
func (t *tarball) Read(b []byte) (int, error) {
	if t.at >= t.size {
		return 0, io.EOF
	}
	if t.r == nil {
		if err := t.request(); err != nil {
			return 0, err
		}
	}
	n, err := t.r.Read(b)
	t.at += int64(n)
	switch {
	case !errors.Is(err, io.EOF) || t.at == t.size:
		return n, err
	case t.at < t.end:
		return n, io.ErrUnexpectedEOF
	default:
		return n, t.closeReader()
	}
}

// ReadAt implements io.ReaderAt with its own request.
func (t *tarball) ReadAt(b []byte, off int64) (int, error) {
	if off >= t.size {
		return 0, io.EOF
	}
	n := min(int64(len(b)), t.size-off)
	if n == 0 {
		return 0, nil
	}
	r, err := t.o.Bucket.Get(t.ctx, t.key, off, n)
	if err != nil {
		return 0, err
	}
	got, err := io.ReadFull(r, b[:n])
	if err = errors.Join(err, r.Close()); err == nil && got < len(b) {
		err = io.EOF
	}
	return got, err
}

// Seek sets the offset of Read.
func (t *tarball) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += t.at
	case io.SeekEnd:
		off += t.size
	}
	if off < 0 {
		return t.at, fmt.Errorf("seek to %d: %w", off, fs.ErrInvalid)
	}
	if off == t.at {
		return off, nil
	}
	t.at = off
	return off, t.closeReader()
}

// Close cancels all reads.
func (t *tarball) Close() error {
	defer t.cancel()
	return t.closeReader()
}

func (t *tarball) closeReader() (err error) {
	if t.r != nil {
		err = t.r.Close()
	}
	t.r = nil
	return err
}
