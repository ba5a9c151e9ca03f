// Package ident defines the names that cross the wire: hosts, episodes, commits and
// digests.
//
// Each name is parsed once, where it enters the program, into a type whose values are
// valid; code behind that does not check again. Every valid name is a single local path
// element, so it can be part of a file name. JSON and TOML decode directly into these
// types.
package ident

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Host names a lab host: a DNS label in lower case.
type Host string

// EpisodeID names an episode: a ULID in its canonical upper-case form.
type EpisodeID string

// Commit names a code version: 40 lower-case hex digits.
type Commit string

// Digest is a sha256 as 64 lower-case hex digits.
type Digest string

// isHost reports whether s matches [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?.
func isHost(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isHex reports whether s matches [0-9a-f]{n}.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ParseHost returns s as a Host, or an error with the grammar.
func ParseHost(s string) (Host, error) {
	if !isHost(s) {
		return "", fmt.Errorf("host %q: want 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'", clip(s))
	}
	return Host(s), nil
}

// ParseEpisodeID returns s as an EpisodeID, or an error with the grammar.
func ParseEpisodeID(s string) (EpisodeID, error) {
	id, err := ulid.ParseStrict(s)
	if err != nil || id.String() != s {
		return "", fmt.Errorf("episode id %q: want a ULID (26 characters of Crockford's base32, upper case)", clip(s))
	}
	if at := ulid.Time(id.Time()).UTC(); at.Year() > maxYear {
		return "", fmt.Errorf("episode id %q: its time is in the year %d, want at most %d", clip(s), at.Year(), maxYear)
	}
	return EpisodeID(s), nil
}

// maxYear is the last year in RFC 3339. A ULID reaches year 10889.
const maxYear = 9999

// ParseCommit returns s as a Commit, or an error with the grammar.
func ParseCommit(s string) (Commit, error) {
	if !isHex(s, 40) {
		return "", fmt.Errorf("commit %q: want 40 lower-case hex digits", clip(s))
	}
	return Commit(s), nil
}

// ParseDigest returns s as a Digest, or an error with the grammar.
func ParseDigest(s string) (Digest, error) {
	if !isHex(s, 64) {
		return "", fmt.Errorf("digest %q: want a sha256 as 64 lower-case hex digits", clip(s))
	}
	return Digest(s), nil
}

// NewEpisodeID makes the id of an episode that starts at the given time, with
// randomness from entropy (crypto/rand.Reader outside tests).
func NewEpisodeID(start time.Time, entropy io.Reader) (EpisodeID, error) {
	id, err := ulid.New(ulid.Timestamp(start), entropy)
	if err != nil {
		return "", fmt.Errorf("make episode id: %w", err)
	}
	return ParseEpisodeID(id.String())
}

// Time returns the start of the episode from its id, in milliseconds. It comes from the
// host's clock and may be wrong, so the receiver never depends on it.
func (id EpisodeID) Time() time.Time {
	u, err := ulid.ParseStrict(string(id))
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(u.Time())
}

// UnmarshalText parses a host.
func (h *Host) UnmarshalText(b []byte) error { return parseInto(h, b, ParseHost) }

// UnmarshalText parses an episode id.
func (id *EpisodeID) UnmarshalText(b []byte) error { return parseInto(id, b, ParseEpisodeID) }

// UnmarshalText parses a commit.
func (c *Commit) UnmarshalText(b []byte) error { return parseInto(c, b, ParseCommit) }

// UnmarshalText parses a digest.
func (d *Digest) UnmarshalText(b []byte) error { return parseInto(d, b, ParseDigest) }

func parseInto[T ~string](dst *T, b []byte, parse func(string) (T, error)) error {
	v, err := parse(string(b))
	if err != nil {
		return err
	}
	*dst = v
	return nil
}

// clip truncates long names in messages, and hides a join token that was given as a name.
func clip(s string) string {
	const most = 80
	if strings.HasPrefix(s, "c490.") {
		return "c490.…"
	}
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
