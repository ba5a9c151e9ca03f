package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pkg is the part of go list's output that the rules need.
type pkg struct {
	Dir, ImportPath, Doc string
	Imports              []string
	GoFiles, TestGoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=Dir,ImportPath,Doc,Imports,GoFiles,TestGoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// rule allows packages under from to import only packages of this module under to.
type rule struct {
	from string
	to   []string
	why  string
}

// TestImports checks the direction of imports: only commands may import agent, receiver
// and install.
func TestImports(t *testing.T) {
	rules := []rule{
		{
			"cis490/commands",
			[]string{"cis490/agent", "cis490/receiver", "cis490/install", "cis490/internal", "cis490/assets"},
			"commands wires everything",
		},
		{"cis490/agent", []string{"cis490/agent", "cis490/internal"}, "a lab host must not depend on receiver or installer"},
		{"cis490/receiver", []string{"cis490/receiver", "cis490/internal"}, "the receiver must not depend on a lab host's code"},
		{
			"cis490/install",
			[]string{"cis490/install", "cis490/internal", "cis490/assets"},
			"what changes the machine stays apart from what runs on it",
		},
		{"cis490/internal", []string{"cis490/internal"}, "leaves know nothing of who uses them"},
		{"cis490/assets", nil, "assets are data"},
		{
			"cis490/e2e/sim",
			[]string{"cis490/e2e/sim", "cis490/agent", "cis490/receiver", "cis490/install", "cis490/internal"},
			"the fleet in one process wires what ships, as commands does",
		},
		{
			"cis490/e2e",
			[]string{"cis490/e2e", "cis490/internal/wire", "cis490/internal/ident", "cis490/internal/check"},
			"scenarios use the binary as a person does",
		},
		{"cis490", []string{"cis490/commands", "cis490/internal/version"}, "main only starts commands"},
	}
	for _, p := range packages(t) {
		for _, r := range rules {
			if !within(p.ImportPath, r.from) {
				continue
			}
			for _, imp := range p.Imports {
				if within(imp, "cis490") && !withinAny(imp, r.to) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, r.why)
				}
			}
			break
		}
	}
}

// TestFences allows each outside library, and each dangerous package, in its own package
// only.
func TestFences(t *testing.T) {
	fences := map[string][]string{
		"github.com/urfave/cli/v2":                                {"cis490/commands"},
		"github.com/kardianos/service":                            {"cis490/install"},
		"github.com/minio/selfupdate":                             {"cis490/install"},
		"github.com/pelletier/go-toml/v2":                         {"cis490/internal/config", "cis490/internal/experiment"},
		"github.com/klauspost/compress/zstd":                      {"cis490/internal/episode", "cis490/internal/manifest"},
		"github.com/klauspost/compress/gzhttp":                    {"cis490/receiver/web"},
		"github.com/godbus/dbus/v5":                               {"cis490/internal/machine"},
		"github.com/prometheus/procfs":                            {"cis490/agent/orchestrate", "cis490/internal/machine"},
		"github.com/prometheus/client_golang/prometheus":          {"cis490/receiver/metrics"},
		"github.com/prometheus/client_golang/prometheus/promhttp": {"cis490/receiver/metrics"},
		"github.com/chromedp/chromedp":                            {"cis490/e2e"},
		"github.com/santhosh-tekuri/jsonschema/v6":                {"cis490/internal/apidoc"},
		"go.yaml.in/yaml/v3":                                      {"cis490/internal/apidoc"},
		"github.com/nicholas-fedor/shoutrrr":                      {"cis490/receiver/notify"},
		"github.com/minio/minio-go/v7":                            {"cis490/receiver/objects"},
		"github.com/minio/minio-go/v7/pkg/credentials":            {"cis490/receiver/objects"},
		"github.com/minio/minio-go/v7/pkg/signer":                 {"cis490/receiver/objects/s3test"},
		"github.com/parquet-go/parquet-go":                        {"cis490/receiver/export"},
		"go.etcd.io/bbolt":                                        {"cis490/receiver/catalogue"},
		"github.com/jackc/pgx/v5":                                 {"cis490/receiver/pg"},
		"github.com/jackc/pgx/v5/pgconn":                          {"cis490/receiver/pg"},
		"github.com/jackc/pgx/v5/pgxpool":                         {"cis490/receiver/pg"},
		"github.com/jackc/pgx/v5/stdlib":                          {"cis490/receiver/pg"},
		"github.com/pressly/goose/v3":                             {"cis490/receiver/pg"},

		"os/exec": {
			"cis490/install", "cis490/agent/orchestrate", "cis490/commands", "cis490/e2e", "cis490/receiver/objects/s3test",
			"cis490/receiver/pg/pgtest",
		},
		"os/signal":                 {"cis490/e2e", "cis490/agent/orchestrate"},
		"cis490/receiver/authority": {"cis490/commands", "cis490/e2e/sim"},
		"cis490/install":            {"cis490/commands", "cis490/install", "cis490/e2e/sim"},
		"log":                       {},
		"testing": {
			"cis490/e2e", "cis490/agent/client/clienttest", "cis490/internal/disk/rival", "cis490/receiver/backendtest",
			"cis490/receiver/objects/s3test", "cis490/receiver/pg/pgtest",
		},
	}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			homes, fenced := fences[imp]
			if !fenced || withinAny(p.ImportPath, homes) || p.ImportPath == "cis490" {
				continue
			}
			t.Errorf("%s imports %s, whose home is %v", p.ImportPath, imp, homes)
		}
	}
}

// TestPackageDocs requires exactly one package comment in each package.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		docs := 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs++
			}
		}
		if len(p.GoFiles) > 0 && docs != 1 {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, docs)
		}
	}
}

// TestArchitecture_NamesEveryPackage keeps the table of packages complete.
func TestArchitecture_NamesEveryPackage(t *testing.T) {
	b, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "cis490"), "/")
		if name != "" && !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("docs/architecture.md does not say what %s is for", name)
		}
	}
}

// TestIncidents_AreComplete: each incident has a scenario, a row in the page, and a part
// without which the scenario fails.
func TestIncidents_AreComplete(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page, parts := read("docs/incidents.md"), read("e2e/off/parts_test.go")
	for n := 1; n <= 21; n++ {
		files, err := filepath.Glob(fmt.Sprintf("e2e/incident_%02d_*_test.go", n))
		if err != nil || len(files) == 0 {
			t.Errorf("incident %d has no scenario: %v", n, err)
		}
		for _, f := range files {
			if row := fmt.Sprintf("| [%d](../%s) |", n, f); !strings.Contains(page, row) {
				t.Errorf("docs/incidents.md has no row that begins %q", row)
			}
			for _, m := range regexp.MustCompile(`(?m)^func TestIncident(\d\d_\w+)\(`).FindAllStringSubmatch(read(f), -1) {
				if !strings.Contains(parts, "\n\t\t\""+m[1]+"\":") {
					t.Errorf("e2e/off/parts_test.go has no part of TestIncident%s", m[1])
				}
			}
		}
	}
}

// TestSecurity_NamesTestsThatExist checks the test names in docs/security.md.
func TestSecurity_NamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1)
	files := goFiles(t)
	for _, m := range named {
		found := false
		for path, content := range files {
			found = found || strings.HasSuffix(path, "_test.go") && strings.Contains(content, "func "+m[1]+"(")
		}
		if !found {
			t.Errorf("docs/security.md names %s, which is not a test", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("docs/security.md names %d tests", len(named))
	}
}

// TestNoHiddenState finds init functions and the like by their text.
func TestNoHiddenState(t *testing.T) {
	for path, content := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, bad := range []string{"\nfunc init() {", "slog.SetDefault(", "slog.Default()"} {
			if strings.Contains(content, bad) {
				t.Errorf("%s contains %q: state is passed, not found", path, strings.TrimSpace(bad))
			}
		}
		if strings.Contains(content, "os.Exit(") && path != "main.go" {
			t.Errorf("%s calls os.Exit: errors rise to main", path)
		}
	}
}

// TestFileBudget keeps files small enough to read in one go.
func TestFileBudget(t *testing.T) {
	for path, content := range goFiles(t) {
		budget := 400
		if strings.HasSuffix(path, "_test.go") {
			budget = 600
		}
		if n := strings.Count(content, "\n"); n > budget {
			t.Errorf("%s has %d lines, split it at %d", path, n, budget)
		}
	}
}

// TestTopLevel has the list of the project's folders.
func TestTopLevel(t *testing.T) {
	allowed := map[string]bool{
		"commands": true, "agent": true, "receiver": true, "install": true, "assets": true, "docs": true,
		"internal": true, "e2e": true,
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !allowed[e.Name()] && !ignored(t, e.Name()) {
			t.Errorf("%s/ is not one of the project's top-level folders", e.Name())
		}
	}
}

// ignored reports whether .gitignore has the name as a folder.
func ignored(t *testing.T, name string) bool {
	t.Helper()
	f, err := os.Open(".gitignore")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.Trim(s.Text(), "/") == name {
			return true
		}
	}
	return false
}

func goFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
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

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func withinAny(path string, roots []string) bool {
	for _, r := range roots {
		if within(path, r) {
			return true
		}
	}
	return false
}

// TestDocs_NameFilesThatExist: each path of this project in a document is a file or folder.
func TestDocs_NameFilesThatExist(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	path := regexp.MustCompile("`((?:agent|receiver|install|internal|commands|e2e|assets|docs)/[A-Za-z0-9_./-]*[A-Za-z0-9_/])`")
	found := 0
	for _, page := range append(append(pages, decisions...), "README.md", "SECURITY.md") {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range path.FindAllSubmatch(content, -1) {
			found++
			name := string(m[1])
			if name == "e2e/logs/" || strings.Contains(name, "NN") { // made by a run; a pattern
				continue
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names %s: %v", page, name, err)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d paths", found)
	}
}
