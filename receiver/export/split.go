package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
)

// Split is how the episodes are divided. The zero Split does not divide them.
type Split struct {
	By   string // "", "host", "time" or "random"
	Seed string // of random
}

// The sets, and the shares of the last two.
const (
	Train      = "train"
	Validation = "validation"
	Test       = "test"
	share      = 0.1
)

// ParseSplit reads host, time or random:SEED.
func ParseSplit(s string) (Split, error) {
	by, seed, seeded := strings.Cut(s, ":")
	switch {
	case s == "" || by == "host" && !seeded || by == "time" && !seeded:
		return Split{By: s}, nil
	case by == "random" && seed != "":
		return Split{by, seed}, nil
	}
	return Split{}, fmt.Errorf("want host, time or random:SEED, got %.40q", s)
}

// String returns the text that ParseSplit parses.
func (s Split) String() string {
	if s.Seed != "" {
		return s.By + ":" + s.Seed
	}
	return s.By
}

// names returns the sets in their order.
func (s Split) names() []string {
	if s.By == "" {
		return []string{""}
	}
	return []string{Train, Validation, Test}
}

// listed is what is known of the list of episodes.
type listed struct {
	id    string
	total int
	hosts map[ident.Host]int    // episodes of each
	of    map[ident.Host]string // split of each
}

// prepare divides the hosts: in the order of their names' digests, validation and test take
// hosts until each has a tenth of the episodes.
func (s Split) prepare(l *listed) error {
	l.of = map[ident.Host]string{}
	if s.By != "host" || l.total == 0 {
		return nil
	}
	if len(l.hosts) < 3 {
		return fault.Fix(errors.New("--split host: fewer than 3 hosts, so one set would be empty"),
			"use --split time or --split random:1, in a new folder")
	}
	var names []ident.Host
	for h := range l.hosts {
		names = append(names, h)
	}
	slices.SortFunc(names, func(a, b ident.Host) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return bytes.Compare(x[:], y[:])
	})
	next, taken := 0, 0
	for i, set := range []string{Validation, Test} {
		for taken = 0; float64(taken) < share*float64(l.total) && next < len(names)-(2-i); next++ {
			l.of[names[next]] = set
			taken += l.hosts[names[next]]
		}
	}
	return nil
}

// of returns the set of an episode, the at-th of the list.
func (s Split) of(l *listed, r catalogue.Row, at int) string {
	where := 0.0
	switch s.By {
	case "":
		return ""
	case "host":
		if set := l.of[r.Host]; set != "" {
			return set
		}
		return Train
	case "time":
		where = float64(at) / float64(l.total)
	default:
		sum := sha256.Sum256([]byte(s.Seed + "\x00" + string(r.Host) + "\x00" + string(r.Episode)))
		where = float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
	}
	switch {
	case where >= 1-share:
		return Test
	case where >= 1-2*share:
		return Validation
	}
	return Train
}
