package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/store"
)

// episodes reads the tarballs of package store.
type episodes struct{ o Options }

func (e episodes) dir(h ident.Host) string {
	return filepath.Join(e.o.Dir, store.EpisodesDir, string(h))
}

func (e episodes) path(k receiver.Key) string {
	return filepath.Join(e.dir(k.Host), string(k.Episode)+wire.TarballSuffix)
}

// Open opens the file.
func (e episodes) Open(k receiver.Key) (receiver.Tarball, error) { return openFile(e.o.FS, e.path(k)) }

// OpenRow opens the file.
func (e episodes) OpenRow(row receiver.Entry) (receiver.Tarball, error) { return e.Open(row.Key()) }

// section is an open file with Seek.
type section struct {
	*io.SectionReader
	disk.File
}

// Read reads at the present offset.
func (s section) Read(b []byte) (int, error) { return s.SectionReader.Read(b) }

// ReadAt reads at an offset.
func (s section) ReadAt(b []byte, off int64) (int, error) { return s.SectionReader.ReadAt(b, off) }

// openFile opens a file for reading. The machine's own files are returned as *os.File, so
// that the kernel can send them.
func openFile(fsys disk.FS, path string) (receiver.Tarball, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if own, ok := f.(*os.File); ok {
		return own, nil
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return section{io.NewSectionReader(f, 0, fi.Size()), f}, nil
}

// Holders returns the hosts that have a folder.
func (e episodes) Holders(hosts []ident.Host) (have []ident.Host, err error) {
	for _, h := range hosts {
		switch _, err := e.o.FS.Lstat(e.dir(h)); {
		case err == nil:
			have = append(have, h)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return have, nil
}

// Free returns the free bytes of the file system.
func (e episodes) Free() (int64, error) {
	if space, ok := e.o.FS.(disk.Space); ok {
		return space.Free(e.o.Dir)
	}
	return 0, nil
}

// List reads the folders. An error of one host's folder is yielded with its host and does
// not end the sequence.
func (e episodes) List(ctx context.Context) iter.Seq2[receiver.Stored, error] {
	return func(yield func(receiver.Stored, error) bool) {
		hosts, err := e.o.FS.ReadDir(filepath.Join(e.o.Dir, store.EpisodesDir))
		if err != nil {
			yield(receiver.Stored{}, fmt.Errorf("list hosts: %w", err))
			return
		}
		for _, entry := range hosts {
			h, err := ident.ParseHost(entry.Name())
			if err != nil || !entry.IsDir() {
				continue
			}
			if !e.list(ctx, h, yield) {
				return
			}
		}
	}
}

func (e episodes) list(ctx context.Context, h ident.Host, yield func(receiver.Stored, error) bool) bool {
	entries, err := e.o.FS.ReadDir(e.dir(h))
	if err != nil {
		return yield(receiver.Stored{Key: receiver.Key{Host: h}}, err)
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), wire.TarballSuffix)
		id, err := ident.ParseEpisodeID(name)
		if !ok || err != nil {
			continue
		}
		s := receiver.Stored{Key: receiver.Key{Host: h, Episode: id}}
		fi, err := e.o.FS.Lstat(e.path(s.Key))
		switch err := errors.Join(err, ctx.Err()); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return yield(s, err)
		case !fi.Mode().IsRegular():
			s.Err = disk.ErrNotRegular
		}
		s.Size, s.At = fi.Size(), fi.ModTime()
		if !yield(s, nil) {
			return false
		}
	}
	return true
}

// Check compares the newest rows with their files, or all rows with all files.
func (e episodes) Check(ctx context.Context, newest int, now time.Time) (c receiver.Checked, err error) {
	from := time.Time{}
	if newest > 0 {
		from = now.Add(-24 * time.Hour)
	}
	rows := map[ident.Host]int{}
	ring := make([]receiver.Entry, 0, newest)
	seen := 0
	for line, err := range ledger.Rows(newLog(e.o, indexFormat()).settled(), filepath.Join(e.o.Dir, IndexFile), receivedAt, from) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return c, err
		}
		var row receiver.Entry
		if json.Unmarshal(line.Line, &row) != nil || row.Host == "" || row.Episode == "" {
			c.Damaged++
			continue
		}
		switch {
		case row.Archived:
			continue
		case newest == 0:
			rows[row.Host]++
			e.compare(&c, row)
		case len(ring) < newest:
			ring = append(ring, row)
		default:
			ring[seen%newest] = row
		}
		seen++
	}
	for _, row := range ring {
		e.compare(&c, row)
	}
	if newest == 0 {
		err = e.unindexed(&c, rows)
	}
	return c, err
}

func (e episodes) compare(c *receiver.Checked, row receiver.Entry) {
	c.Rows++
	fi, err := e.o.FS.Lstat(e.path(row.Key()))
	if errors.Is(err, fs.ErrNotExist) {
		if _, archived, bad := store.Archived(e.o.FS, e.o.Dir, row.Key()); archived && bad == nil {
			return
		}
	}
	if err != nil || fi.Size() != row.Size {
		c.Lost++
		if c.Example == "" {
			c.Example = fmt.Sprintf("%s/%s", row.Host, row.Episode)
		}
	}
}

// unindexed searches for a host with more files than rows.
func (e episodes) unindexed(c *receiver.Checked, rows map[ident.Host]int) error {
	hosts, err := e.o.FS.ReadDir(filepath.Join(e.o.Dir, store.EpisodesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, h := range hosts {
		if !h.IsDir() {
			continue
		}
		files, err := e.o.FS.ReadDir(filepath.Join(e.o.Dir, store.EpisodesDir, h.Name()))
		if err != nil {
			return err
		}
		if n := rows[ident.Host(h.Name())]; len(files) > n {
			c.Unindexed = fmt.Sprintf("%s has %d files and %d rows", h.Name(), len(files), n)
			return nil
		}
	}
	return nil
}

// Tarballs returns the path of an episode for each host that has stored it.
func Tarballs(fsys disk.FS, dir string, id ident.EpisodeID) (paths []string, err error) {
	hosts, err := fsys.ReadDir(filepath.Join(dir, store.EpisodesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	e := episodes{Options{FS: fsys, Dir: dir}}
	for _, h := range hosts {
		paths = append(paths, e.path(receiver.Key{Host: ident.Host(h.Name()), Episode: id}))
	}
	return paths, err
}
