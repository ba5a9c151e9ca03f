package config_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// docs/configuration.md has the text of the example files; `make golden` writes it.
func TestPage_IsTheExamples(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Configuration\n\n" +
		"Each role has one file; in it, each key that has a default is a comment. `install` writes the file once, and never\n" +
		"edits it again; every default lives in the binary. `cis490 config check` names each mistake with file, line and\n" +
		"column. Daemons only warn of a key that they do not know, so that an older version still starts.\n\n" +
		"This page is generated from the files that `install` writes (`assets/config`).\n")
	for _, f := range []struct{ title, name string }{
		{"Lab host: `/etc/cis490/lab-host.toml`", "lab-host.toml"}, {"Receiver: `/etc/cis490/receiver.toml`", "receiver.toml"},
	} {
		b, err := os.ReadFile("../../assets/config/" + f.name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&page, "\n## %s\n", f.title)
		page.WriteString(describe(string(b)))
	}
	const path = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(got)); diff != "" {
		t.Errorf("docs/configuration.md is not what assets/config says (make golden):\n%s", diff)
	}
}

// describe turns an example into a list: each comment, with the keys and values below it.
func describe(text string) string {
	key := regexp.MustCompile(`^(# )?([a-z_]+) = (.*)$`)
	var out strings.Builder
	var words, keys []string
	flush := func() {
		if len(keys) > 0 {
			fmt.Fprintf(&out, "\n%s\n\n```toml\n%s\n```\n", strings.Join(words, "\n"), strings.Join(keys, "\n"))
			words, keys = nil, nil
		}
	}
	_, text, _ = strings.Cut(text, "\n\n") // the text above all keys is for the file's editor
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch m := key.FindStringSubmatch(line); {
		case m != nil:
			keys = append(keys, m[2]+" = "+m[3])
		case strings.HasPrefix(line, "["):
			flush()
			fmt.Fprintf(&out, "\n### `%s`\n", line)
			words = nil
		case strings.HasPrefix(line, "# "):
			flush()
			words = append(words, strings.TrimPrefix(line, "# "))
		}
	}
	flush()
	return out.String()
}
