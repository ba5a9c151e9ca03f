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

// ArchivedDir has a list for each host of whose episodes some were moved out: what
// the answer to a duplicate needs, without the index's history. A list is text,
// ordered by episode, each line of the same length, so that it is searched and
// not read.
const ArchivedDir = "archived"

// noCommit stands for a commit that is not known.
var noCommit = strings.Repeat("-", 40)

const (
	listTime  = "2006-01-02T15:04:05.000000000Z"
	listWidth = 26 + 1 + 64 + 1 + 40 + 1 + 19 + 1 + len(listTime) + 1
)

// listLine writes a row as a list has it; its time is when it was archived.
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

// Archived returns an episode that was moved out, for any process. Its time is
// when it was archived.
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
	// A new episode is later than all that are old enough: one look is enough.
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

// ListArchived merges rows, ordered by episode, into the list of their host. The list is
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
				_, _ = out.WriteString(listLine(rows[0])) // Flush tells
				rows = rows[1:]
			}
			if line == "" {
				return out.Flush()
			}
			_, _ = out.WriteString(line)
		}
	})
}

// Archive notes that a host's episodes were moved out, and removes their tarballs:
// first the host's list is durable, then the index has a row with archived, then
// the files go. The caller vouches that a copy of each is durable elsewhere. It
// returns those that are archived now, and how many bytes that made free; one that
// is stored with another digest, or not at all, is not among them. It may be asked
// again after any failure.
func (s *Store) Archive(h ident.Host, want map[ident.EpisodeID]ident.Digest) (done []ident.EpisodeID, freed int64, err error) {
	s.archiving.Lock()
	defer s.archiving.Unlock()
	var add, again []receiver.Entry // to the list; in the list with the tarball still there
	now := s.o.Now().UTC()
	for id, d := range want {
		k := receiver.Key{Host: h, Episode: id}
		defer s.keys.Lock(k)() // nobody else waits for a second one
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
	slices.SortFunc(add, func(a, b receiver.Entry) int { return strings.Compare(string(a.Episode), string(b.Episode)) })
	// Also where it has them all: that it is durable is not known.
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

// WithoutArchivedRow returns the archived entries that have no row in the index. It reads the index from when they were listed.
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
	// The day is for a clock that was set back.
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
