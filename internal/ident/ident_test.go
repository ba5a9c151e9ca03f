package ident_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
)

func TestParseHost(t *testing.T) {
	for name, ok := range map[string]bool{
		"lab-01": true, "a": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false,
		"..": false, "a\x00": false, "a\n": false, "é": false, strings.Repeat("a", 64): false,
	} {
		if _, err := ident.ParseHost(name); (err == nil) != ok {
			t.Errorf("ParseHost(%q) = %v, want ok=%v", name, err, ok)
		}
	}
}

func TestEpisodeID_RoundTripsItsTime(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_123)
	id, err := ident.NewEpisodeID(start, strings.NewReader(strings.Repeat("x", 64)))
	if err != nil {
		t.Fatal(err)
	}
	if !id.Time().Equal(start) {
		t.Errorf("Time() = %v, want %v", id.Time(), start)
	}
	for _, bad := range []string{"", strings.ToLower(string(id)), string(id) + "0", "../../etc/passwd", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"} {
		if _, err := ident.ParseEpisodeID(bad); err == nil {
			t.Errorf("ParseEpisodeID(%q) accepted", bad)
		}
	}
}

// TestEpisodeID_HasATimeThatCanBeWritten: a ULID reaches to the year 10889, RFC 3339
// to 9999.
func TestEpisodeID_HasATimeThatCanBeWritten(t *testing.T) {
	end := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	id, err := ident.NewEpisodeID(end.Add(-time.Millisecond), strings.NewReader(strings.Repeat("x", 64)))
	if err != nil {
		t.Error(err)
	}
	if _, err := ident.ParseEpisodeID(string(id)); err != nil {
		t.Error(err)
	}
	if id, err := ident.NewEpisodeID(end, strings.NewReader(strings.Repeat("x", 64))); err == nil {
		t.Errorf("made %s", id)
	}
	if _, err := ident.ParseEpisodeID("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"); err == nil {
		t.Error("accepted the year 10889")
	}
}

// FuzzNames: what is accepted is canonical and is one local path element.
func FuzzNames(f *testing.F) {
	f.Add("lab-01")
	f.Add("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, s string) {
		check := func(got string, err error) {
			if err != nil {
				return
			}
			if got != s || !filepath.IsLocal(s) || filepath.Base(s) != s {
				t.Errorf("accepted %q as %q", s, got)
			}
		}
		h, err := ident.ParseHost(s)
		check(string(h), err)
		id, err := ident.ParseEpisodeID(s)
		check(string(id), err)
		c, err := ident.ParseCommit(s)
		check(string(c), err)
		d, err := ident.ParseDigest(s)
		check(string(d), err)
	})
}
