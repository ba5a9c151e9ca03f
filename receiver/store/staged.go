package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"cis490/internal/ident"
	"cis490/receiver"
)

// stagedUpload is a staged upload. Its name contains everything that the row needs, so
// that a restart can finish it.
type stagedUpload struct {
	name    string
	row     receiver.Entry
	epoch   int  // of the commits, before it was written
	durable bool // only the row is missing
}

func newStaged(u receiver.Upload) stagedUpload {
	salt := make([]byte, 4)
	_, _ = rand.Read(salt) // never fails
	return stagedUpload{
		name: strings.Join([]string{string(u.Host), string(u.Episode), string(u.Digest), string(u.Commit), hex.EncodeToString(salt)}, "."),
		row:  receiver.Entry{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit},
	}
}

// parseStaged parses a staged name; ok is false for other files.
func parseStaged(name string) (it stagedUpload, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 5 {
		return it, false
	}
	h, err1 := ident.ParseHost(parts[0])
	id, err2 := ident.ParseEpisodeID(parts[1])
	d, err3 := ident.ParseDigest(parts[2])
	c, err4 := ident.ParseCommit(parts[3])
	if errors.Join(err1, err2, err3, err4) != nil {
		return it, false
	}
	return stagedUpload{name: name, row: receiver.Entry{Host: h, Episode: id, Digest: d, Commit: c}}, true
}

func (s *Store) stagedOf(k receiver.Key) (stagedUpload, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.pending[k]
	return it, ok
}

func (s *Store) setStaged(it stagedUpload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[it.row.Key()] = it
}

func (s *Store) dropStaged(k receiver.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, k)
}
