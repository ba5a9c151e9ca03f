package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// byPath are the functions that take a path and resolve it as it is at that moment:
// what one with fewer rights can change on the way, they follow and wait for.
// Package disk has one for each that does not.
var byPath = map[string][]string{
	"os": {
		"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "Chown", "Chmod", "Lchown", "Chtimes", "RemoveAll", "Remove", "Rename", "ReadFile", "WriteFile",
		"Mkdir", "MkdirAll", "ReadDir", "Symlink", "Link", "Stat", "Lstat", "Readlink", "Truncate", "DirFS", "CopyFS",
	},
	"filepath": {"Walk", "WalkDir", "Glob", "EvalSymlinks"},
	"unix": {
		"Open", "Openat", "Openat2", "Stat", "Lstat", "Statfs", "Chmod", "Chown", "Lchown", "Fchownat", "Fchmodat", "Mkdir", "Mkdirat", "Rename", "Renameat",
		"Renameat2", "Unlink", "Unlinkat", "Link", "Linkat", "Symlink", "Symlinkat", "Readlink", "Readlinkat", "Getxattr", "Setxattr", "Truncate",
	},
	"syscall": {"Open", "Openat", "Stat", "Lstat", "Statfs", "Chmod", "Chown", "Lchown", "Mkdir", "Rename", "Unlink", "Link", "Symlink", "Readlink", "Truncate"},
	"tls":     {"LoadX509KeyPair"},
	"http":    {"ServeFile", "Dir"},
}

// TestPaths_GoThroughTheDisk keeps every path in the hands of internal/disk. A
// recorder has the least rights of all and reads /proc by descriptors of its own;
// scenarios and test helpers prepare what they like.
func TestPaths_GoThroughTheDisk(t *testing.T) {
	homes := []string{
		"internal/disk", "agent/client/peer", "e2e",
		"agent/orchestrate",  // has the least rights, and its own way through /proc
		"install/service.go", // which program a process of /proc runs
	}
	for path, content := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") || withinAny(path, homes) {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Obj == nil && slices.Contains(byPath[pkg.Name], sel.Sel.Name) {
				t.Errorf("%s: %s.%s takes a path: package disk has one that nobody with fewer rights can turn elsewhere", fset.Position(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}
