package main_test

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns bounds a line of Go, with a tab as one column.
const maxColumns = 140

// unplain lists phrases that state a thing by what it is not, or an action without its
// actor, and their plain form.
func unplain() map[string]string {
	return map[string]string{
		"is no ":       "is not a …",
		"are no ":      "are not …",
		"is to be ":    "must be …, or the one who does it",
		"another hand": "another process",
		" told":        "say who reports what: is reported, is logged, was notified",
		" tells ":      "returns, reports, prints or logs",
		" anew":        "again, or re-: restarts, rebuilds",
	}
}

// TestPlainWords keeps phrases out of code and docs that readers have to read twice.
func TestPlainWords(t *testing.T) {
	plain := strings.NewReplacer("here is no ", "", "here are no ", "", " is no longer", "", " are no longer", "", "told apart", "")
	for path, content := range written(t, ".go", ".md", ".html", ".toml", ".tmpl", ".yaml", ".json") {
		for i, line := range strings.Split(content, "\n") {
			line = plain.Replace(line)
			for phrase, instead := range unplain() {
				if strings.Contains(line, phrase) {
					t.Errorf("%s:%d: %q: %s", path, i+1, phrase, instead)
				}
			}
		}
	}
}

// TestClockFix_HasOneHome: set-ntp alone does nothing on a machine without a time service.
func TestClockFix_HasOneHome(t *testing.T) {
	for path, content := range written(t, ".go", ".md", ".html", ".tmpl", ".yml") {
		home := path == "internal/machine/synced.go" || path == "docs/checks.md" // which is generated
		if !strings.HasSuffix(path, "_test.go") && strings.Contains(content, "set-ntp") != home {
			t.Errorf("%s: the fix for a wrong clock is machine.ClockFix, everywhere", path)
		}
	}
}

// TestTimes_HaveOneForm: data has times as in RFC 3339, texts for people have plain.Time.
func TestTimes_HaveOneForm(t *testing.T) {
	for path, content := range written(t, ".go") {
		programs := path == "receiver/alert.go" || strings.HasPrefix(path, "e2e/") // a line of key=value pairs
		if !programs && !strings.HasSuffix(path, "_test.go") && strings.Contains(content, ".Format(time.RFC3339)") {
			t.Errorf("%s: write times for people by plain.Time", path)
		}
	}
}

// TestLines_FitTheScreen bounds the lines of Go.
func TestLines_FitTheScreen(t *testing.T) {
	for path, content := range written(t, ".go") {
		for i, line := range strings.Split(content, "\n") {
			if n := utf8.RuneCountInString(line); n > maxColumns {
				t.Errorf("%s:%d: %d columns, want at most %d", path, i+1, n, maxColumns)
			}
		}
	}
}

// written returns the files of the project with one of the endings, except this one, which
// has the phrases.
func written(t *testing.T, endings ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		ends := func(ending string) bool { return strings.HasSuffix(path, ending) }
		if path == "plain_test.go" || !slices.ContainsFunc(endings, ends) {
			return nil
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestFixes_NameUnits: each service or timer that a text starts, stops or reads exists.
func TestFixes_NameUnits(t *testing.T) {
	call := regexp.MustCompile(`(?:systemctl|journalctl) [^"` + "`" + `#&|;)\n]*`)
	name := regexp.MustCompile(`\b(cis490-[a-z]+(?:-[a-z]+)*)(\.service|\.timer)?\b`)
	named := 0
	for path, content := range written(t, ".go", ".md", ".html", ".tmpl") {
		for _, text := range call.FindAllString(content, -1) {
			for _, m := range name.FindAllStringSubmatch(text, -1) {
				named++
				if _, err := os.Stat("assets/units/" + m[1] + cmp.Or(m[2], ".service") + ".tmpl"); err != nil {
					t.Errorf("%s: %q: there is not such a unit", path, text)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("%d units are named", named)
	}
}
