package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// byPath lists functions that resolve a path when they are called: they follow, and block
// on, whatever a less privileged user puts there. Package disk has a safe one for each.
var byPath = map[string][]string{
	"os": {
		"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "Chown", "Chmod", "Lchown", "Chtimes", "RemoveAll", "Remove", "Rename",
		"ReadFile", "WriteFile",
		"Mkdir", "MkdirAll", "ReadDir", "Symlink", "Link", "Stat", "Lstat", "Readlink", "Truncate", "DirFS", "CopyFS", "CreateTemp", "Chdir",
		"StartProcess",
	},
	"filepath": {"Walk", "WalkDir", "Glob", "EvalSymlinks"},
	"unix": {
		"Open", "Openat", "Openat2", "Stat", "Lstat", "Statfs", "Chmod", "Chown", "Lchown", "Fchownat", "Fchmodat", "Mkdir", "Mkdirat", "Rename",
		"Renameat",
		"Renameat2", "Unlink", "Unlinkat", "Link", "Linkat", "Symlink", "Symlinkat", "Readlink", "Readlinkat", "Getxattr", "Setxattr", "Truncate",
		"Creat", "Fstatat", "Statx", "Access", "Faccessat", "Faccessat2", "Mknod", "Mknodat", "Mkfifo", "Mkfifoat", "Rmdir", "Chdir", "Chroot",
		"Utimes", "UtimesNano", "UtimesNanoAt",
		"Lgetxattr", "Lsetxattr", "Listxattr", "Llistxattr", "Removexattr", "InotifyAddWatch", "Mount", "Unmount", "OpenTree", "NameToHandleAt",
	},
	"syscall": {
		"Open", "Openat", "Stat", "Lstat", "Statfs", "Chmod", "Chown", "Lchown", "Mkdir", "Rename", "Unlink", "Link", "Symlink", "Readlink",
		"Truncate",
		"Creat", "Access", "Faccessat", "Fchmodat", "Fchownat", "Mkdirat", "Mknod", "Mknodat", "Mkfifo", "Rmdir", "Renameat", "Unlinkat", "Chdir",
		"Chroot", "Utimes", "UtimesNano",
		"Getxattr", "Setxattr", "Listxattr", "Removexattr", "InotifyAddWatch", "Mount", "Unmount",
	},
	"tls":  {"LoadX509KeyPair"},
	"http": {"ServeFile", "Dir"},
}

// TestPaths_GoThroughTheDisk: only internal/disk opens paths. The recorder is exempt,
// because it has the least rights and reads /proc by its own descriptors, and so are test
// helpers.
func TestPaths_GoThroughTheDisk(t *testing.T) {
	homes := []string{
		"internal/disk", "agent/client/clienttest", "receiver/pg/pgtest", "e2e", "assets/notices",
		"agent/orchestrate",  // has the least rights, and reads /proc by descriptors
		"install/service.go", // the program of a process in /proc
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
		for _, im := range f.Imports {
			if short := strings.Trim(im.Path.Value, `"`); im.Name != nil && byPath[short[strings.LastIndex(short, "/")+1:]] != nil {
				t.Errorf("%s: imports %s by another name, which this test does not know", fset.Position(im.Pos()), short)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			dials := path == "internal/peercred/peercred.go" || path == "receiver/local/socket.go" || path == "receiver/server/server.go"
			if lit, ok := n.(*ast.BasicLit); ok && lit.Value == `"unix"` && !dials {
				t.Errorf("%s: dial a socket by peer.Dial, which connects to the socket and to nothing that its name leads to", fset.Position(lit.Pos()))
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Obj == nil && slices.Contains(byPath[pkg.Name], sel.Sel.Name) {
				t.Errorf("%s: %s.%s takes a path: package disk has one that nobody with fewer rights can turn elsewhere", fset.Position(n.Pos()),
					pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}
