package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// adapters are the packages that know the files of the receiver's state.
func adapters() []string { return []string{"receiver/local", "receiver/store", "receiver/s3"} }

// TestStorage_IsBehindTheBackend keeps files out of the receiver's other packages, which
// use a receiver.Backend, so that another storage can replace the disk.
func TestStorage_IsBehindTheBackend(t *testing.T) {
	// Packages with files of their own, which are not the receiver's state.
	own := map[string]string{
		"receiver/authority":      "its own folder, with the CA key, which nobody else reads",
		"receiver/archive":        "writes copies to a folder elsewhere",
		"receiver/backup":         "saves and restores the files of the local backend, the config and the authority",
		"receiver/gate":           "follows the config file",
		"receiver/checks":         "judges config, keys and certificates on this machine",
		"receiver/objects/s3test": "runs a server over a temporary folder, for tests",
		"receiver/notify":         "reads files of secrets that the config names",
		"receiver/catalogue":      "a derived index, in a file of its own beside what serve runs on",
		"receiver/export":         "writes a folder elsewhere",
	}
	files := []string{"os", "path/filepath", "cis490/internal/disk", "cis490/internal/ledger"}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "cis490/")
		if !within(name, "receiver") || withinAny(name, adapters()) || own[name] != "" {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(files, imp) {
				t.Errorf("%s imports %s: the receiver's state is behind receiver.Backend", p.ImportPath, imp)
			}
		}
	}
}

// TestStorage_NamesAreTheAdapters allows names below the data folder, and bytes of rows,
// in the adapters only.
func TestStorage_NamesAreTheAdapters(t *testing.T) {
	name := regexp.MustCompile(`^"(episodes|staged|archived|host-health|store_id` +
		`|(orders|index|alerts|rejections|silences)\.jsonl` +
		`|(contacts|fleet-check|notify|last-backup|rollout)\.json)"$`)
	row := regexp.MustCompile("`[^`]*\"(host|episode|sha256|commit|received_at|symptom)\":")
	folder := regexp.MustCompile(`(?i)^dataDir$`)
	// The documents' names, a route, templates, and a table.
	named := []string{
		"receiver/docs.go", "receiver/rejection.go", "receiver/web/episodes.go", "receiver/web/render.go", "receiver/export/episodes.go",
	}
	for path, content := range goFiles(t) {
		ours := begins(path, []string{"receiver/", "commands/"}) && !strings.HasSuffix(path, "_test.go")
		if !ours || begins(path, adapters()) || slices.Contains(named, path) {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.BasicLit:
				if name.MatchString(n.Value) || row.MatchString(n.Value) {
					t.Errorf("%s: %s is the backend's to know", fset.Position(n.Pos()), n.Value)
				}
			case *ast.FuncType:
				for _, field := range n.Params.List {
					for _, id := range field.Names {
						if folder.MatchString(id.Name) && path != "receiver/archive/archive.go" {
							t.Errorf("%s: a parameter %s: take a receiver.Backend, or the part of it that is needed", fset.Position(id.Pos()), id.Name)
						}
					}
				}
			}
			return true
		})
	}
}
