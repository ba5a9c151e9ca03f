package commands_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"cis490/internal/wire"
)

// fixes returns the fixes of the program: of every check and every refusal, and those
// elsewhere in the code that name a machine.
func fixes(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for role, checks := range registries() {
		for _, k := range checks {
			all[role+" "+k.ID] = k.Fix
		}
	}
	for _, a := range wire.Answers() {
		all["refusal "+string(a.Kind)] = a.Fix
	}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if _, command, named := strings.Cut(s, ": "); err == nil && named && command != "" && onMachine.MatchString(s) {
				all[path+" "+s] = s
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var onMachine = regexp.MustCompile(`^on (HOST|the lab host|the receiver): `)

// TestFixes_CanBePasted: after the machine's name comes a command with installed tools, or
// a comment; cis490 commands exist, with their flags. Only "nothing" is in words.
func TestFixes_CanBePasted(t *testing.T) {
	tools := regexp.MustCompile(`^(\{ )?(sudo (-u cis490-rec )?)?(cis490|chmod|\./cis490|systemctl|journalctl|df|cat|getent|grep|chown|` +
		`timedatectl|apt-get|dnf|modprobe|dmesg|mount|ls|echo) |^} `)
	ours := regexp.MustCompile(`(?:sudo |^|: |; )(?:\./)?cis490 ([a-z][^#;|&]*)`)
	book, all := manual{}, fixes(t)
	if len(all) < 90 {
		t.Errorf("only %d fixes were found", len(all))
	}
	for where, fix := range all {
		for _, m := range ours.FindAllStringSubmatch(fix, -1) {
			line, _, _ := strings.Cut(m[1], ", ")
			book.look(t, where, line)
		}
		if strings.HasPrefix(fix, "nothing: ") {
			continue
		}
		command := onMachine.ReplaceAllString(fix, "")
		if command == fix {
			t.Errorf("%s: names no machine: %s", where, fix)
			continue
		}
		command, _, _ = strings.Cut(command, "   #")
		for _, part := range regexp.MustCompile(`; | && | \|\| `).Split(command, -1) {
			if !tools.MatchString(part + " ") {
				t.Errorf("%s: %q cannot be pasted: %s", where, part, fix)
			}
		}
		if out, err := exec.Command("sh", "-n", "-c", strings.TrimPrefix(fix, fix[:strings.Index(fix, ": ")+2])).CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %s", where, fix, out)
		}
	}
}
