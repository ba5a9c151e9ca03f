package off

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
)

// A change switches a part off. It returns the path of the changed file, relative to root,
// and its new content. mark is the part's mark in the source, or nil.
type change func(root string, mark *mark) (path string, content []byte, err error)

// edit returns a change of the marked node.
func edit(of func(m *mark) (node ast.Node, text string, err error)) change {
	return func(_ string, m *mark) (string, []byte, error) {
		if m == nil {
			return "", nil, fmt.Errorf("no comment //off: marks it in the source")
		}
		node, text, err := of(m)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", m.file, err)
		}
		from, to := m.offset(node.Pos()), m.offset(node.End())
		return m.file, bytes.Join([][]byte{m.source[:from], []byte(text), m.source[to:]}, nil), nil
	}
}

// never makes the condition of an if, a case, a result or an element false.
func never(root string, m *mark) (string, []byte, error) {
	return edit(func(m *mark) (ast.Node, string, error) {
		e, err := m.condition()
		if err != nil {
			return nil, "", err
		}
		return e, "false && (" + m.text(e) + ")", nil
	})(root, m)
}

// or adds an alternative to the condition.
func or(text string) change {
	return edit(func(m *mark) (ast.Node, string, error) {
		e, err := m.condition()
		if err != nil {
			return nil, "", err
		}
		return e, m.text(e) + " || " + text, nil
	})
}

// replace replaces the node.
func replace(text string) change {
	return edit(func(m *mark) (ast.Node, string, error) { return m.node, text, nil })
}

// before inserts statements before the node.
func before(text string) change {
	return edit(func(m *mark) (ast.Node, string, error) { return m.node, text + "\n" + m.text(m.node), nil })
}

// drop removes the node; of a list, the element with its comma.
func drop(root string, m *mark) (string, []byte, error) {
	path, content, err := replace("")(root, m)
	if err != nil {
		return "", nil, err
	}
	at := m.offset(m.node.Pos())
	if rest, ok := bytes.CutPrefix(content[at:], []byte(",")); ok {
		content = append(content[:at:at], rest...)
	}
	return path, content, nil
}

// inUnit replaces a text in a template of a unit, which has no marks: its words are
// systemd's.
func inUnit(name, old, with string) change {
	return func(root string, _ *mark) (string, []byte, error) {
		path := filepath.Join("assets", "units", name)
		b, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return "", nil, err
		}
		if n := bytes.Count(b, []byte(old)); n != 1 {
			return "", nil, fmt.Errorf("%s has %q %d times, want once", path, old, n)
		}
		return path, bytes.Replace(b, []byte(old), []byte(with), 1), nil
	}
}
