package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
)

// ArchivedDir has a list of archived episodes for each host, so that duplicates are
// answered without reading the index. A list is text, sorted by episode, with lines of
// one length, for binary search.
const ArchivedDir = "archived"

// noCommit stands for an unknown commit.
var noCommit = strings.Repeat("-", 40)

const (
	listTime  = "2006-01-02T15:04:05.000000000Z"
	listWidth = 26 + 1 + 64 + 1 + 40 + 1 + 19 + 1 + len(listTime) + 1
)

// listLine returns the line of a row. Its time is when the episode was archived.
func listLine(r receiver.Entry) string {
	c := string(r.Commit)
	if c == "" {
		c = noCommit
	}
	return fmt.Sprintf("%s %s %s %019d %s\n", r.Episode, r.Digest, c, r.Size, r.ReceivedAt.UTC().Format(listTime))
}

func parseListLine(h ident.Host, line string) (r receiver.Entry, err error) {
	f := strings.Fields(line)
	if len(line) != listWidth || len(f) != 5 {
		return r, damaged(h, line)
	}
	r = receiver.Entry{Host: h, Archived: true}
	var errs [5]error
	r.Episode, errs[0] = ident.ParseEpisodeID(f[0])
	r.Digest, errs[1] = ident.ParseDigest(f[1])
	if f[2] != noCommit {
		r.Commit, errs[2] = ident.ParseCommit(f[2])
	}
	r.Size, errs[3] = strconv.ParseInt(f[3], 10, 64)
	r.ReceivedAt, errs[4] = time.Parse(listTime, f[4])
	return r, errors.Join(errs[:]...)
}

func damaged(h ident.Host, line string) error {
	return fmt.Errorf("line %.200q of the list of %s is damaged", line, h)
}

func listPath(dataDir string, h ident.Host) string {
	return filepath.Join(dataDir, ArchivedDir, string(h))
}

// Archived returns an archived episode, in any process. Its time is when it was archived.
func Archived(fsys disk.FS, dataDir string, k receiver.Key) (r receiver.Entry, found bool, err error) {
	f, err := fsys.OpenFile(listPath(dataDir, k.Host), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	defer func() { _ = f.Close() }() // only read
	fi, err := f.Stat()
	if err != nil {
		return r, false, err
	}
	n := int(fi.Size() / int64(listWidth))
	line := make([]byte, listWidth)
	at := func(i int) string {
		if err == nil {
			_, err = f.ReadAt(line, int64(i)*int64(listWidth))
		}
		return string(line[:26])
	}
	// Usually the episode is newer than all archived ones, and one comparison is enough.
	if n == 0 || at(n-1) < string(k.Episode) {
		return r, false, err
	}
	i := sort.Search(n, func(i int) bool { return at(i) >= string(k.Episode) })
	if i == n || at(i) != string(k.Episode) || err != nil {
		return r, false, err
	}
	r, err = parseListLine(k.Host, string(line))
	return r, err == nil, err
}

// ListArchived merges rows, sorted by episode, into the list of their host. The list is
// durable when it returns.
func ListArchived(fsys disk.FS, dataDir string, h ident.Host, rows []receiver.Entry) error {
	path := listPath(dataDir, h)
	old, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return err
	}
	in := bufio.NewReader(bytes.NewReader(nil))
	if old != nil {
		defer func() { _ = old.Close() }() // only read
		in.Reset(old)
	}
	return disk.Replace(fsys, path, filePerm, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		for {
			line, err := in.ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if line != "" && len(line) != listWidth {
				return damaged(h, line)
			}
			for len(rows) > 0 && (line == "" || string(rows[0].Episode) < line[:26]) {
				_, _ = out.WriteString(listLine(rows[0])) // Flush returns the error
				rows = rows[1:]
			}
			if line == "" {
				return out.Flush()
			}
			_, _ = out.WriteString(line)
		}
	})
}

// ListCopied adds the archived ones of another store's rows to the lists of their hosts.
func ListCopied(fsys disk.FS, dataDir string, rows []receiver.Entry) error {
	add := map[ident.Host][]receiver.Entry{}
	for _, r := range rows {
		if !r.Archived {
			continue
		}
		_, found, err := Archived(fsys, dataDir, r.Key())
		if err != nil {
			return err
		}
		if !found {
			add[r.Host] = append(add[r.Host], r)
		}
	}
	if len(add) == 0 {
		return nil
	}
	if err := disk.MkdirAll(fsys, filepath.Join(dataDir, ArchivedDir), dirPerm); err != nil {
		return err
	}
	for h, rows := range add {
		slices.SortFunc(rows, byEpisode)
		if err := ListArchived(fsys, dataDir, h, rows); err != nil {
			return err
		}
	}
	return nil
}

func byEpisode(a, b receiver.Entry) int { return strings.Compare(string(a.Episode), string(b.Episode)) }

// Archive records that a host's episodes were archived, and removes their tarballs. The
// host's list becomes durable first, then the rows of the index, then the files are
// removed. The caller vouches that each has a durable copy. Archive returns which are
// archived now, and the bytes it freed; it skips episodes that are not stored, or have
// another digest. It may be called again after any failure.
func (s *Store) Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error) {
	s.archiving.Lock()
	defer s.archiving.Unlock()
	var add, again []receiver.Entry // to add to the list; in the list, with a tarball
	now := s.o.Now().UTC()
	for id, d := range want {
		k := receiver.Key{Host: h, Episode: id}
		defer s.keys.Lock(k)() // no other caller locks two episodes
		r, here, err := s.lookupTarball(k)
		if err != nil {
			return nil, 0, err
		}
		listed, archived, err := Archived(s.o.FS, s.o.DataDir, k)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("archive: %w", err)
		case here && r.Digest != d, archived && listed.Digest != d, !here && !archived:
			continue
		case here && archived:
			again = append(again, listed)
		case here:
			r.ReceivedAt, r.Archived = now, true
			add = append(add, r)
		}
		done = append(done, id)
	}
	if freed, err = s.archive(h, add, again); err != nil {
		return nil, 0, fmt.Errorf("archive: %w", err)
	}
	return done, freed, nil
}

func (s *Store) archive(h ident.Host, add, again []receiver.Entry) (freed int64, err error) {
	if len(add)+len(again) == 0 {
		return 0, nil
	}
	slices.SortFunc(add, byEpisode)
	// Even if the list has all rows, because it may not be durable.
	if err := ListArchived(s.o.FS, s.o.DataDir, h, add); err != nil {
		return 0, err
	}
	rows, err := WithoutArchivedRow(s.o.Index, again)
	if err != nil {
		return 0, err
	}
	rows = append(rows, add...)
	if err := s.o.Index.Append(rows); err != nil {
		return 0, err
	}
	for _, r := range append(again, add...) {
		if err := s.o.FS.Remove(s.path(r.Key())); err != nil {
			return 0, err
		}
	}
	for _, r := range rows {
		freed += r.Size
	}
	return freed, s.o.FS.SyncDir(s.hostDir(h))
}

// WithoutArchivedRow returns the archived entries that have no row in the index. It reads
// the index from a day before the oldest of them.
func WithoutArchivedRow(index Index, listed []receiver.Entry) ([]receiver.Entry, error) {
	if len(listed) == 0 {
		return nil, nil
	}
	owed, from := map[receiver.Key]receiver.Entry{}, listed[0].ReceivedAt
	for _, r := range listed {
		owed[r.Key()] = r
		if r.ReceivedAt.Before(from) {
			from = r.ReceivedAt
		}
	}
	// The day allows for a clock that was set back.
	for r, err := range index.Since(from.Add(-24 * time.Hour)) {
		if err != nil {
			return nil, err
		}
		if r.Archived {
			delete(owed, r.Key())
		}
	}
	out := make([]receiver.Entry, 0, len(owed))
	for _, r := range owed {
		out = append(out, r)
	}
	return out, nil
}
