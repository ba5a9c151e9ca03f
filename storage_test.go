package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// storage returns the receiver's packages that may use files, with the reason, and the
// folders of its adapters, which know the files of the receiver's state. Each has a line
// "//storage:files REASON" or "//storage:adapter" at the end of its package comment.
func storage(t *testing.T) (files map[string]string, adapters []string) {
	t.Helper()
	files = map[string]string{}
	for path, content := range goFiles(t) {
		comment, _, _ := strings.Cut(content, "\npackage ")
		_, line, found := strings.Cut(comment, "//storage:")
		if !found || strings.HasSuffix(path, "_test.go") {
			continue
		}
		dir := filepath.Dir(path)
		kind, why, _ := strings.Cut(line, " ")
		switch {
		case kind == "adapter":
			adapters = append(adapters, dir)
		case kind == "files" && why != "":
			files[dir] = why
		default:
			t.Errorf("%s: //storage:%s: want \"adapter\", or \"files\" and the reason", path, line)
		}
	}
	return files, adapters
}

// TestStorage_IsBehindTheBackend keeps files out of the receiver's other packages, which
// use a receiver.Backend, so that another storage can replace the disk.
func TestStorage_IsBehindTheBackend(t *testing.T) {
	own, adapters := storage(t)
	files := []string{"os", "path/filepath", "cis490/internal/disk", "cis490/internal/ledger"}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "cis490/")
		uses := slices.DeleteFunc(p.Imports, func(imp string) bool { return !slices.Contains(files, imp) })
		switch {
		case !within(name, "receiver") || withinAny(name, adapters):
		case own[name] != "" && len(uses) == 0:
			t.Errorf("%s uses no files: remove //storage:files from its package comment", p.ImportPath)
		case own[name] == "" && len(uses) > 0:
			t.Errorf("%s imports %s: the receiver's state is behind receiver.Backend", p.ImportPath, strings.Join(uses, " and "))
		}
	}
}

// TestStorage_NamesAreTheAdapters allows names below the data folder, and bytes of rows,
// in the adapters only.
func TestStorage_NamesAreTheAdapters(t *testing.T) {
	_, adapters := storage(t)
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
		if !ours || withinAny(filepath.Dir(path), adapters) || slices.Contains(named, path) {
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
