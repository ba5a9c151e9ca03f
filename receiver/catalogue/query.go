package catalogue

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"
	"go.etcd.io/bbolt"

	"cis490/internal/ident"
)

// Query selects episodes. Zero fields select all.
type Query struct {
	Host    ident.Host
	Profile string
	Verdict string
	Class   string
	State   State
	Commit  ident.Commit
	Digest  ident.Digest
	From    time.Time // of the recording's start, by the host's clock
	To      time.Time // before it
	Newest  bool      // the newest first, instead of the oldest
	Limit   int       // rows of an answer; 0: MaxLimit
	Cursor  string    // of a Page, to continue from there
}

// MaxLimit bounds the rows of an answer.
const MaxLimit = 1000

// maxSteps bounds the work of an answer, to a fraction of a second.
const maxSteps = 200_000

// Page is a part of the answer to a query.
type Page struct {
	Rows []Row  `json:"episodes"`
	Next string `json:"next,omitempty"` // the cursor for what follows; "": nothing does
}

// ErrCursor reports a cursor that is not of this catalogue.
var ErrCursor = errors.New("not a cursor of the catalogue")

// tag is the first byte of an index key: which field it is of.
type tag byte

const (
	tagHost tag = iota + 1
	tagProfile
	tagVerdict
	tagClass
	tagState
	tagCommit
	tagDigest
)

// digestBytes is how much of a digest an index key has; the row has the rest.
const digestBytes = 8

// prefix returns what the index keys of a value begin with. The rest of a key is the row's,
// so that the keys of each value have the rows' order.
func prefix(t tag, value string) []byte { return append(append([]byte{byte(t)}, value...), 0) }

// raw returns the bytes of hexadecimal digits.
func raw(digits string, n int) string {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) < n {
		return digits // not reached: digits are parsed at the edge
	}
	return string(b[:n])
}

// prefixes returns the index prefixes of a row or a query.
func prefixes(host ident.Host, profile, verdict, class string, state State, commit ident.Commit, digest ident.Digest) (all [][]byte) {
	for _, x := range []struct {
		tag   tag
		value string
	}{{tagHost, string(host)}, {tagProfile, profile}, {tagVerdict, verdict}, {tagClass, class}, {tagState, string(state)}} {
		if x.value != "" {
			all = append(all, prefix(x.tag, x.value))
		}
	}
	// Of fixed length, so that they need no end.
	if commit != "" {
		all = append(all, append([]byte{byte(tagCommit)}, raw(string(commit), 20)...))
	}
	if digest != "" {
		all = append(all, append([]byte{byte(tagDigest)}, raw(string(digest), digestBytes)...))
	}
	return all
}

// entries returns the row's index keys.
func (r Row) entries() [][]byte {
	all := prefixes(r.Host, r.Profile, r.Verdict, r.Class, r.State, r.Commit, r.Digest)
	for i := range all {
		all[i] = append(all[i], r.key()...)
	}
	return all
}

// Get returns an episode's row.
func (c *Catalogue) Get(h ident.Host, id ident.EpisodeID) (r Row, found bool, err error) {
	key := Row{Host: h, Episode: id}.key()
	err = c.view(func(tx *bbolt.Tx) (err error) {
		if value := tx.Bucket(rowsBucket()).Get(key); value != nil {
			found = true
			r, err = decode(key, value)
		}
		return err
	})
	return r, found && err == nil, err
}

// Find answers a query. A page may have fewer rows than the limit, even none, and still a
// cursor: the work of each is bounded.
func (c *Catalogue) Find(q Query) (p Page, err error) {
	if q.Limit <= 0 || q.Limit > MaxLimit {
		q.Limit = MaxLimit
	}
	p.Rows = []Row{}
	err = c.view(func(tx *bbolt.Tx) error {
		s := search{rows: tx.Bucket(rowsBucket()), newest: q.Newest, from: bound(q.From), to: bound(q.To)}
		for _, prefix := range prefixes(q.Host, q.Profile, q.Verdict, q.Class, q.State, q.Commit, q.Digest) {
			s.lists = append(s.lists, list{listsOf(tx, prefix).Cursor(), prefix})
		}
		if len(s.lists) == 0 {
			s.lists = []list{{s.rows.Cursor(), nil}}
		}
		if err := s.start(q.Cursor); err != nil {
			return err
		}
		for len(p.Rows) < q.Limit {
			key, value := s.next()
			if key == nil {
				break
			}
			r, err := decode(key, value)
			if err != nil {
				return err
			}
			if q.Digest == "" || r.Digest == q.Digest {
				p.Rows = append(p.Rows, r)
			}
		}
		p.Next = s.cursor()
		return nil
	})
	return p, err
}

// bound returns the lowest key of a time, nil for the zero time.
func bound(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	var id ulid.ULID
	if t.Before(time.UnixMilli(0)) { // no id has such a time; as a number it would be the latest
		return id[:]
	}
	_ = id.SetTime(min(ulid.Timestamp(t), ulid.MaxTime())) // never too large
	return id[:]
}

// list is the sorted keys of one value of a field.
type list struct {
	c      *bbolt.Cursor
	prefix []byte
}

// search walks through the rows that are in all lists, in the order of their keys: each list
// jumps to the first key that the others allow.
type search struct {
	rows     *bbolt.Bucket
	lists    []list
	newest   bool
	from, to []byte
	at       []byte // the last key that was read
	past     bool   // at itself was dealt with
	over     bool
	steps    int
}

// start begins at a cursor, or where the times of the query begin.
func (s *search) start(cursor string) error {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	switch {
	case err != nil || cursor != "" && (len(b) < 2+len(ulid.ULID{}) || b[0] > 1):
		return ErrCursor
	case cursor != "":
		s.past, s.at = b[0] == 1, b[1:]
	case !s.newest:
		s.at = s.from
	case s.to != nil:
		s.at = s.to
	default:
		s.at = bytes.Repeat([]byte{0xff}, 80)
	}
	return nil
}

// cursor returns where the search is, or "" at its end.
func (s *search) cursor() string {
	if s.over {
		return ""
	}
	past := byte(0)
	if s.past {
		past = 1
	}
	return base64.RawURLEncoding.EncodeToString(append([]byte{past}, s.at...))
}

// next returns the next row, or nil at the end or after maxSteps.
func (s *search) next() (key, value []byte) {
	for agree := 0; agree < len(s.lists); {
		for _, l := range s.lists {
			if s.steps++; s.steps > maxSteps {
				return nil, nil
			}
			key := l.seek(s.at, s.newest, s.past)
			if key == nil || s.newest && bytes.Compare(key, s.from) < 0 || !s.newest && s.to != nil && bytes.Compare(key, s.to) >= 0 {
				s.over = true
				return nil, nil
			}
			if !s.past && bytes.Equal(key, s.at) {
				if agree++; agree == len(s.lists) {
					break
				}
				continue
			}
			s.at, s.past, agree = bytes.Clone(key), false, 1
			if len(s.lists) == 1 {
				break
			}
		}
	}
	s.past = true
	return s.at, s.rows.Get(s.at)
}

// seek returns the list's first key at or after a key, or after it with past; with newest,
// at or before it.
func (l list) seek(key []byte, newest, past bool) []byte {
	want := append(bytes.Clone(l.prefix), key...)
	k, _ := l.c.Seek(want)
	switch {
	case newest && k == nil:
		k, _ = l.c.Last()
	case newest && (past || !bytes.Equal(k, want)):
		k, _ = l.c.Prev()
	case !newest && past && bytes.Equal(k, want):
		k, _ = l.c.Next()
	}
	if !bytes.HasPrefix(k, l.prefix) || len(k) == len(l.prefix) {
		return nil
	}
	return k[len(l.prefix):]
}
