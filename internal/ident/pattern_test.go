package ident_test

import (
	"testing"

	"cis490/internal/ident"
)

func TestPattern(t *testing.T) {
	for _, bad := range []string{"", "lab-01", "a*b*", "-*", "A*", "*/x", "*\n"} {
		if p, err := ident.ParsePattern(bad); err == nil {
			t.Errorf("%q is a pattern: %q", bad, p)
		}
	}
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"room12-*", "room12-07", true},
		{"room12-*", "room12-", false},
		{"room12-*", "room1-07", false},
		{"*", "x", true},
		{"a*a", "aa", false},
		{"a*a", "a", false},
		{"a*a", "aba", true},
		{"pc-*-lab", "pc-1-lab", true},
		{"pc-*-lab", "pc-1-la", false},
	} {
		p, err := ident.ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(ident.Host(c.host)); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.host, got)
		}
	}
}
