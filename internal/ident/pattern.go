package ident

import (
	"fmt"
	"strings"
)

// Pattern names many hosts: a host name with one '*' for one or more of its characters.
type Pattern string

// ParsePattern returns s as a Pattern, or an error with the grammar.
func ParsePattern(s string) (Pattern, error) {
	if strings.Count(s, "*") != 1 || !isHost(strings.Replace(s, "*", "x", 1)) {
		return "", fmt.Errorf("pattern %q: want a host name with one '*'", clip(s))
	}
	return Pattern(s), nil
}

// Match reports whether the pattern names a host.
func (p Pattern) Match(h Host) bool {
	before, after, ok := strings.Cut(string(p), "*")
	return ok && len(h) > len(before)+len(after) && strings.HasPrefix(string(h), before) && strings.HasSuffix(string(h), after)
}

// UnmarshalText parses a pattern.
func (p *Pattern) UnmarshalText(b []byte) error { return parseInto(p, b, ParsePattern) }
