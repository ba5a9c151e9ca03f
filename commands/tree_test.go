package commands_test

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cis490/commands"
)

// run runs the program in this process.
func run(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	env := testEnv()
	env.In, env.Out, env.Err = strings.NewReader(""), &o, &e
	env.Getenv = func(string) string { return "" }
	code = commands.Main(t.Context(), append([]string{"cis490"}, args...), env)
	return o.String(), e.String(), code
}

// subcommands reads the names out of a command's help.
func subcommands(t *testing.T, path ...string) []string {
	t.Helper()
	out, errOut, code := run(t, append(path, "--help")...)
	if code != 0 || errOut != "" {
		t.Fatalf("%v --help: code %d, %s", path, code, errOut)
	}
	_, list, ok := strings.Cut(out, "COMMANDS:\n")
	if !ok {
		return nil
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^   ([a-z-]+)(, h)?  `).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			names = append(names, m[1])
		}
	}
	return names
}

// TestTree_Manners walks every command: its help says what it does with an
// example, and a word it does not know is a usage error with empty output.
func TestTree_Manners(t *testing.T) {
	var walk func(path []string)
	walk = func(path []string) {
		below := subcommands(t, path...)
		if len(path) > 0 && len(below) == 0 {
			if help, _, _ := run(t, append(path, "--help")...); !strings.Contains(help, "Example") {
				t.Errorf("%v --help shows no example", path)
			}
		}
		for _, wrong := range []string{"--no-such-flag", "no/such word"} {
			if wrong[0] != '-' && len(path) > 0 && len(below) == 0 {
				continue // the leaf's own arguments: its script tests them
			}
			out, errOut, code := run(t, append(path, wrong)...)
			if code != 64 || out != "" || !strings.Contains(errOut, "cis490: hint: ") {
				t.Errorf("%v %s: code %d, out %q, err %q", path, wrong, code, out, errOut)
			}
		}
		for _, name := range below {
			walk(append(slices.Clip(path), name))
		}
	}
	walk(nil)
}
