package off

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestParts_AreMarked: each part has one mark, each mark has a part, and the changed source
// can be parsed.
func TestParts_AreMarked(t *testing.T) {
	root := projectRoot(t)
	marks := readMarks(t, root)
	all := parts()
	for name, p := range simulatedParts() {
		all[name+".sim"] = p
	}
	maps.Copy(all, mends())
	named := maps.Clone(all)
	for name, o := range others() {
		named[o.mark] = all[name]
	}
	for _, name := range slices.Sorted(maps.Keys(marks)) {
		if _, ok := named[name]; !ok {
			t.Errorf("%s: //off:%s is not a part: add it to parts(), or remove the comment", marks[name].file, name)
		}
	}
	for name, p := range all {
		t.Run(name, func(t *testing.T) { p.overlay(t, root, marks, name) })
	}
}

// A mark is a comment //off:NAME, or //off:NAME,NAME, with the node below it.
type mark struct {
	file   string // relative to the root
	source []byte
	fset   *token.FileSet
	node   ast.Node
}

func (m *mark) offset(p token.Pos) int { return m.fset.Position(p).Offset }

func (m *mark) text(n ast.Node) string {
	return string(m.source[m.offset(n.Pos()):m.offset(n.End())])
}

// condition returns the condition of the node.
func (m *mark) condition() (ast.Expr, error) {
	switch n := m.node.(type) {
	case *ast.IfStmt:
		return n.Cond, nil
	case *ast.KeyValueExpr:
		return n.Value, nil
	case *ast.CaseClause:
		if len(n.List) == 1 {
			return n.List[0], nil
		}
	case *ast.ReturnStmt:
		if len(n.Results) == 1 {
			return n.Results[0], nil
		}
	}
	return nil, fmt.Errorf("%s is not an if, a case, a return or an element with one condition", m.fset.Position(m.node.Pos()))
}

// readMarks returns all marks of the source tree, by name.
func readMarks(t *testing.T, root string) map[string]*mark {
	t.Helper()
	marks := map[string]*mark{}
	for _, dir := range []string{"agent", "commands", "install", "internal", "receiver"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(source, []byte("//off:")) {
				return err
			}
			file, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return readFile(file, source, marks)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return marks
}

// readFile adds the marks of a file.
func readFile(file string, source []byte, marks map[string]*mark) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			names, ok := strings.CutPrefix(c.Text, "//off:")
			if !ok {
				continue
			}
			node := nodeAt(fset, f, fset.Position(group.End()).Line+1)
			if node == nil {
				return fmt.Errorf("%s: no statement, case, element or constant in the line after //off:%s", fset.Position(c.Pos()), names)
			}
			for name := range strings.SplitSeq(names, ",") {
				if other := marks[name]; other != nil {
					return fmt.Errorf("%s and %s both have //off:%s", other.file, fset.Position(c.Pos()), name)
				}
				marks[name] = &mark{file, source, fset, node}
			}
		}
	}
	return nil
}

// nodeAt returns the outermost node that begins in a line.
func nodeAt(fset *token.FileSet, f *ast.File, line int) (node ast.Node) {
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil || node != nil {
			return false
		}
		switch n.(type) {
		case ast.Stmt, ast.Expr, *ast.ValueSpec:
			if fset.Position(n.Pos()).Line == line {
				node = n
			}
		}
		return node == nil
	})
	return node
}

// overlay writes the source without the part, and returns the overlay file for go build.
func (p part) overlay(t *testing.T, root string, marks map[string]*mark, name string) string {
	t.Helper()
	replace, dir := map[string]string{}, t.TempDir()
	places := []other{{name, p.off}}
	if o, ok := others()[name]; ok {
		places = append(places, o)
	}
	for n, o := range places {
		path, content, err := o.off(root, marks[o.mark])
		if err != nil {
			t.Fatalf("%s: %v", p.what, err)
		}
		if strings.HasSuffix(path, ".go") {
			if _, err := parser.ParseFile(token.NewFileSet(), path, content, 0); err != nil {
				t.Fatalf("%s: without it: %v", p.what, err)
			}
		}
		path = filepath.Join(root, path)
		if replace[path] != "" {
			t.Fatalf("%s: %s has two of its marks", p.what, path)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d-%s", n, filepath.Base(path)))
		if err := os.WriteFile(replace[path], content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		t.Fatal(err)
	}
	return overlay
}

func projectRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
