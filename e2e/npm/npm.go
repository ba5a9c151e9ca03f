// Package npm reads what cis490 exports with programs that are not ours: DuckDB the tables,
// jsonld the description. npm fetches them once into the user's cache.
package npm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a script in a folder, with a package of npm, such as name@1.0.0. It returns the
// script's output.
func run(t testing.TB, pkg, script, dir string, args ...string) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(cache, "cis490-lab", "npm-"+strings.ReplaceAll(strings.TrimPrefix(pkg, "@"), "/", "-"))
	name := pkg[:strings.LastIndexByte(pkg, '@')]
	if _, err := os.Stat(filepath.Join(home, "node_modules", name)); err != nil {
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		install := exec.Command("npm", "install", "--prefix", home, "--no-audit", "--no-fund", pkg)
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm install: %v\n%s", err, out)
		}
	}
	path := filepath.Join(home, "run.mjs")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	node := exec.Command("node", append([]string{path}, args...)...)
	node.Dir = dir
	var errs strings.Builder
	node.Stderr = &errs
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, errs.String())
	}
	return out
}
