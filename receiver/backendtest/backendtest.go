// Package backendtest checks that a backend keeps the promises of package receiver. All
// backends run the same cases, so that one can replace another.
//
// It stores nothing itself: it opens what a Maker returns, uses it as the receiver's
// processes do, and opens it again as after a crash.
package backendtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
)

// Maker opens the same storage with each call, as another process would.
type Maker func() receiver.Backend

const commit = ident.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

// uploads are of two hosts. Their content is derived from their name.
func uploads() []receiver.Upload {
	var all []receiver.Upload
	for _, k := range []receiver.Key{
		{Host: "lab-a", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
		{Host: "lab-a", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA2"},
		{Host: "lab-b", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
	} {
		text := content(k)
		sum := sha256.Sum256([]byte(text))
		all = append(all, receiver.Upload{
			Host: k.Host, Episode: k.Episode, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(text)), Commit: commit,
		})
	}
	return all
}

func content(k receiver.Key) string { return string(k.Host) + "/" + string(k.Episode) }

func admitted() error { return nil }

// Run runs each case on an empty storage of its own.
func Run(t *testing.T, empty func(t *testing.T) Maker) {
	for name, check := range map[string]func(Maker) error{
		"stored episodes": episodes, "rejected uploads": rejected, "archive": archived, "log": rows, "copies": copies,
		"replacements": replacements,
		"search":       search, "follow": follow, "documents": documents, "leases": leases,
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(empty(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Story is a sequence of operations of receiver and fleet-check, for tests in which the
// storage fails in between. It returns what was acknowledged, and the first error.
func Story(b receiver.Backend) (acked map[receiver.Key]bool, err error) {
	acked = map[receiver.Key]bool{}
	s, err := b.Serve()
	if err != nil {
		return acked, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i, u := range uploads() {
		k := receiver.Key{Host: u.Host, Episode: u.Episode}
		if _, _, err := s.Receive(u, strings.NewReader(content(k)), admitted); err != nil {
			return acked, err
		}
		acked[k] = true
		if i == 0 { // what serve does once a day
			if _, err := s.Compare(context.Background()); err != nil {
				return acked, err
			}
		}
		if err := b.Docs.Save(receiver.ContactsDoc, fmt.Appendf(nil, "version %d", i)); err != nil {
			return acked, err
		}
		if err := b.Rejections.Append([]receiver.Rejection{{V: 1, Host: u.Host, Count: 1}, {V: 1, Host: u.Host, Count: 2}}); err != nil {
			return acked, err
		}
	}
	return acked, nil
}

// After checks the promises after Story was interrupted, on storage that works again.
func After(b receiver.Backend, acked map[receiver.Key]bool) error {
	s, err := b.Serve()
	if err != nil {
		return fmt.Errorf("serve again: %w", err)
	}
	defer func() { _ = s.Close() }()
	count := map[receiver.Key]int{}
	for e, err := range b.Index.Since(time.Time{}) {
		if err != nil {
			return err
		}
		count[e.Key()]++
	}
	for _, u := range uploads() {
		k := receiver.Key{Host: u.Host, Episode: u.Episode}
		have, found, err := s.Lookup(u.Host, u.Episode)
		switch {
		case err != nil:
			return err
		case acked[k] && (!found || have.Digest != u.Digest):
			return fmt.Errorf("%v was acknowledged and is lost", k)
		case found && count[k] != 1:
			return fmt.Errorf("%v is stored and has %d rows", k, count[k])
		case !found && count[k] != 0:
			return fmt.Errorf("%v is not stored and has %d rows", k, count[k])
		}
		if _, _, err := s.Receive(u, strings.NewReader(content(k)), admitted); err != nil {
			return fmt.Errorf("send %v again: %w", k, err)
		}
	}
	doc, err := b.Docs.Load(receiver.ContactsDoc, 100)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(string(doc), "version ") {
		return fmt.Errorf("a document is %q, %w", doc, err)
	}
	var last time.Time
	n := 0
	for r, err := range b.Rejections.Since(time.Time{}) {
		if err != nil {
			return err
		}
		if r.At.Before(last) {
			return errors.New("the time of a row decreases")
		}
		last, n = r.At, n+1
	}
	if want := 2 * (len(acked) - 1); n < want { // the last two rows may be missing
		return fmt.Errorf("%d rows were appended, %d are there", want, n)
	}
	return nil
}

func episodes(open Maker) (err error) {
	b := open()
	if err := holders(b, nil); err != nil {
		return err
	}
	if _, err := Story(b); err != nil {
		return err
	}
	b = open()
	s, err := b.Serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, u := range uploads() {
		k := receiver.Key{Host: u.Host, Episode: u.Episode}
		e, created, err := s.Receive(u, strings.NewReader(content(k)), admitted)
		if err != nil || created || e.Digest != u.Digest {
			return fmt.Errorf("the same upload again: %+v, created %v, %w", e, created, err)
		}
		for how, open := range map[string]func() (receiver.Tarball, error){
			"of its key": func() (receiver.Tarball, error) { return b.Episodes.Open(k) },
			"of its row": func() (receiver.Tarball, error) { return b.Episodes.OpenRow(e) },
		} {
			f, err := open()
			if err != nil {
				return fmt.Errorf("open the tarball %s: %w", how, err)
			}
			got, err := io.ReadAll(f)
			if err = errors.Join(err, f.Close()); err != nil || string(got) != content(k) {
				return fmt.Errorf("the tarball %s is %q, %w", how, got, err)
			}
		}
	}
	have := map[ident.Host]bool{}
	for _, u := range uploads() {
		have[u.Host] = true
	}
	if err := holders(b, have); err != nil {
		return err
	}
	n := 0
	for x, err := range b.Episodes.List(context.Background()) {
		if err != nil || x.Err != nil {
			return errors.Join(err, x.Err)
		}
		n++
	}
	c, err := b.Episodes.Check(context.Background(), 0, time.Now())
	if err != nil || n != 3 || c.Rows != 3 || c.Lost+c.Damaged != 0 || c.Unindexed != "" {
		return fmt.Errorf("%d are listed, %+v, %w", n, c, err)
	}
	if missing := s.Conditions(true); len(missing) > 0 {
		return fmt.Errorf("not ready: %v", missing)
	}
	return nil
}

// holders asks for some hosts, and for so many that a listing costs less; some names begin
// with another one's.
func holders(b receiver.Backend, want map[ident.Host]bool) error {
	some := []ident.Host{"lab", "lab-c"}
	for h := range want {
		some = append(some, h, h+"0")
	}
	many := slices.Clone(some)
	for i := range 30 {
		many = append(many, ident.Host(fmt.Sprintf("none-%02d", i)))
	}
	for _, asked := range [][]ident.Host{nil, some, many} {
		got := map[ident.Host]bool{}
		hosts, err := b.Episodes.Holders(asked)
		for _, h := range hosts {
			got[h] = true
		}
		if err != nil || len(asked) > 0 && !maps.Equal(got, want) {
			return fmt.Errorf("of %q have episodes: %v, %w", asked, got, err)
		}
	}
	return nil
}

func rejected(open Maker) (err error) {
	b := open()
	s, err := b.Serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	u := uploads()[0]
	k := receiver.Key{Host: u.Host, Episode: u.Episode}
	refused := errors.New("not admitted any more")
	wrong, longer := u, u
	wrong.Digest = uploads()[1].Digest
	longer.Size++
	for _, c := range []struct {
		u     receiver.Upload
		admit func() error
		want  error
	}{{wrong, admitted, receiver.ErrDigest}, {longer, admitted, io.ErrUnexpectedEOF}, {u, func() error { return refused }, refused}} {
		if _, _, err := s.Receive(c.u, strings.NewReader(content(k)), c.admit); !errors.Is(err, c.want) {
			return fmt.Errorf("got %w, want %w", err, c.want)
		}
		if _, found, err := s.Lookup(u.Host, u.Episode); found || err != nil {
			return fmt.Errorf("after %w: found %v, %w", c.want, found, err)
		}
	}
	if _, _, err := s.Receive(u, strings.NewReader(content(k)), admitted); err != nil {
		return err
	}
	other := uploads()[2]
	other.Host, other.Episode = u.Host, u.Episode
	if _, _, err := s.Receive(other, strings.NewReader("lab-b/01ARZ3NDEKTSV4RRFFQ69G5FA1"), admitted); !errors.Is(err, receiver.ErrConflict) {
		return fmt.Errorf("other content: %w", err)
	}
	return nil
}

func archived(open Maker) (err error) {
	b := open()
	if _, err := Story(b); err != nil {
		return err
	}
	s, err := b.Serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	u := uploads()[0]
	want := map[ident.EpisodeID]ident.Digest{u.Episode: u.Digest, uploads()[1].Episode: u.Digest}
	done, freed, err := s.Archive(u.Host, want)
	if err != nil || !slices.Equal(done, []ident.EpisodeID{u.Episode}) || freed != u.Size {
		return fmt.Errorf("archived %v, %d bytes, %w", done, freed, err)
	}
	if e, found, err := s.Lookup(u.Host, u.Episode); err != nil || !found || !e.Archived || e.Digest != u.Digest {
		return fmt.Errorf("an archived episode: %+v, %v, %w", e, found, err)
	}
	if _, err := b.Episodes.Open(receiver.Key{Host: u.Host, Episode: u.Episode}); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its tarball: %w", err)
	}
	row := receiver.Entry{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit}
	if _, err := b.Episodes.OpenRow(row); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the tarball of its row: %w", err)
	}
	return nil
}
