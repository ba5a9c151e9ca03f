package commands_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented is a cis490 command line in README or docs.
type documented struct{ file, line string }

// commandLines reads every cis490 command line in the Markdown: in code blocks, and between
// backticks.
func commandLines(t *testing.T) []documented {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?:^|[\s|(;&'])(?:\./|bin/|\./bin/|/usr/local/bin/)?cis490 ([a-z].*)`)
	inline := regexp.MustCompile("`([^`\n]+)`")
	words := strings.NewReplacer("-aG cis490", "", "cis490 fleet-alert", "") // a group, and how a log line begins
	var all []documented
	for _, file := range append(files, "../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(b), "\n```") {
			lines := strings.Split(part, "\n")
			if i%2 == 0 { // prose
				lines = nil
				for _, m := range inline.FindAllStringSubmatch(part, -1) {
					lines = append(lines, m[1])
				}
			}
			for _, line := range lines {
				for rest := words.Replace(line); ; {
					m := call.FindStringSubmatch(rest)
					if m == nil {
						break
					}
					command := regexp.MustCompile(`\s*(?:[|;&)>#'│",]|\s<| {2,}|$)`).Split(m[1], 2)
					all = append(all, documented{filepath.Base(file), command[0]})
					if len(command) < 2 {
						break
					}
					rest = command[1]
				}
			}
		}
	}
	return all
}

// Every command in README and docs exists in this build, with its flags.
func TestDocs_CommandsExist(t *testing.T) {
	all := commandLines(t)
	if len(all) < 30 {
		t.Fatalf("only %d command lines were found", len(all))
	}
	book := manual{}
	for _, d := range all {
		book.look(t, d.file, d.line)
	}
}

// manual has the help text of commands, by path.
type manual map[string]struct {
	below []string
	text  string
}

// look checks the command and flags of a command line against the manual; where is the file
// that shows it.
func (m manual) look(t *testing.T, where, line string) {
	t.Helper()
	var path []string
	for word := range strings.FieldsSeq(line) {
		key := strings.Join(path, " ")
		known, ok := m[key]
		if !ok {
			known.below = subcommands(t, path...)
			known.text, _, _ = run(t, append(slices.Clip(path), "--help")...)
			m[key] = known
		}
		switch {
		case strings.HasPrefix(word, "--"):
			name, _, _ := strings.Cut(strings.Trim(word, "[]"), "=")
			if !regexp.MustCompile(regexp.QuoteMeta(name) + `\b`).MatchString(known.text) {
				t.Errorf("%s: `cis490 %s`: no flag %s", where, line, name)
			}
		case slices.Contains(known.below, word):
			path = append(slices.Clip(path), word)
		case len(known.below) > 0 && strings.ToLower(word) == word && regexp.MustCompile(`^[a-z-]+$`).MatchString(word):
			t.Errorf("%s: `cis490 %s`: no command %q", where, line, word)
		}
	}
}
