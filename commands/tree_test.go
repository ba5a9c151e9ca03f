package commands_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/commands"
	"cis490/internal/fault"
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

// subcommands reads the names from a command's help.
func subcommands(t *testing.T, path ...string) []string {
	t.Helper()
	out, errOut, code := run(t, append(path, "--help")...)
	if code != 0 || errOut != "" {
		t.Fatalf("%v --help: code %d, %s", path, code, errOut)
	}
	_, list, ok := strings.Cut(out, "COMMANDS:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	if len(path) == 0 { // in groups
		_, list, ok = strings.Cut(out, "SEE AND REPAIR:\n")
		list, _, _ = strings.Cut(list, "\nFLAGS:\n")
	}
	if !ok {
		return nil
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^   ([a-z-]+)(, h)?  `).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			names = append(names, m[1])
		}
	}
	return names
}

// leaf is a command without subcommands, as in its help.
type leaf struct {
	path  []string
	help  string
	flags []string
}

// leaves walks the whole tree of commands; inner is called for those that have subcommands.
func leaves(t *testing.T, inner func(path []string)) (all []leaf) {
	t.Helper()
	var walk func(path []string)
	walk = func(path []string) {
		below := subcommands(t, path...)
		for _, name := range below {
			walk(append(slices.Clip(path), name))
		}
		if len(below) > 0 {
			inner(path)
			return
		}
		l := leaf{path: path}
		l.help, _, _ = run(t, append(path, "--help")...)
		for _, m := range regexp.MustCompile(`(?m)^   (?:-\w, )?--([a-z][a-z-]*)`).FindAllStringSubmatch(l.help, -1) {
			l.flags = append(l.flags, m[1])
		}
		all = append(all, l)
	}
	walk(nil)
	return all
}

// TestTree_Manners walks every command: its help has a description and an example, with
// flags that exist, also after arguments; an unknown flag or word is a usage error with empty output, and
// suggests the right one.
func TestTree_Manners(t *testing.T) {
	refuses := func(want string, args ...string) {
		t.Helper()
		out, errOut, code := run(t, args...)
		if code != 64 || out != "" || !strings.Contains(errOut, "cis490: hint: ") || !strings.Contains(errOut, want) {
			t.Errorf("%v: code %d, out %q, err %q, want %q", args, code, out, errOut, want)
		}
	}
	for _, l := range leaves(t, func(path []string) {
		refuses("unknown flag", append(path, "--no-such-flag")...)
		refuses("unknown command", append(path, "no/such word")...)
		name := subcommands(t, path...)[0]
		if len(name) > 3 {
			refuses("did you mean \""+name+"\"?", append(path, name[:len(name)-1]+"x")...)
		}
	}) {
		refuses("unknown flag", append(slices.Clip(l.path), "--no-such-flag")...)
		for _, ask := range []string{"--help", "-h"} { // after the arguments it must not run either
			asked := append(append(slices.Clip(l.path), argumentsOf(t, l)...), ask)
			if out, errOut, code := run(t, asked...); code != 0 || out != l.help {
				t.Errorf("%v: code %d, %.200s, %s", asked, code, out, errOut)
			}
		}
		for _, flag := range l.flags {
			if len(flag) > 3 {
				refuses("did you mean \"--", append(slices.Clip(l.path), "--"+flag[:2]+"q"+flag[2:])...)
			}
		}
		if strings.Contains(l.help, "default: false") || strings.Contains(l.help, "default: 0") {
			t.Errorf("%v --help prints defaults that say nothing:\n%s", l.path, l.help)
		}
		_, examples, ok := strings.Cut(l.help, "Example")
		examples, _, _ = strings.Cut(examples, "\nOPTIONS")
		if !ok || !strings.Contains(examples, "cis490 "+strings.Join(l.path, " ")) {
			t.Errorf("%v --help shows no example of itself:\n%s", l.path, examples)
		}
		for _, m := range regexp.MustCompile(`cis490 `+strings.Join(l.path, " ")+`([^|\n#&]*)`).FindAllStringSubmatch(examples, -1) {
			for word := range strings.FieldsSeq(m[1]) {
				if name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "="); strings.HasPrefix(word, "--") && !slices.Contains(l.flags, name) {
					t.Errorf("%v: the example has --%s, which it does not take", l.path, name)
				}
			}
		}
	}
}

// docs/cli.md lists every command, and which of them print JSON; `make golden`
// writes it.
func TestPage_CLI(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Commands

All commands, generated from their help; ` + "`cis490 COMMAND --help`" + ` has flags and examples. Results are on standard
output, all else on standard error. With ` + "`--json`" + `, marked commands print one JSON document only;
[json.schema.json](json.schema.json) describes it. Exit codes are in [exit-codes.md](exit-codes.md).

| command | does | ` + "`--json`" + ` |
|---|---|---|
`)
	for _, l := range leaves(t, func([]string) {}) {
		_, does, _ := strings.Cut(l.help, " - ")
		does, _, _ = strings.Cut(does, "\n")
		json := ""
		if slices.Contains(l.flags, "json") {
			json = "yes"
		}
		fmt.Fprintf(&b, "| `cis490 %s` | %s | %s |\n", strings.Join(l.path, " "), strings.ReplaceAll(strings.TrimSpace(does), "|", "\\|"), json)
	}
	const path = "../docs/cli.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if diff := cmp.Diff(b.String(), string(got)); diff != "" || err != nil {
		t.Errorf("docs/cli.md is not what the commands say (make golden): %v\n%s", err, diff)
	}
}

// docs/exit-codes.md has every exit code, under systemd's name for it, and no other.
func TestPage_ExitCodes(t *testing.T) {
	b, err := os.ReadFile("../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| ([A-Z]*) ?\|`).FindAllStringSubmatch(string(b), -1) {
		got[m[1]] = m[2]
	}
	want := map[string]string{"0": "", fmt.Sprint(fault.Failed): "", "2": ""} // 2 is a crash
	for name, code := range map[string]int{
		"USAGE": fault.Usage, "UNAVAILABLE": fault.Unavailable, "TEMPFAIL": fault.TempFail,
		"NOPERM": fault.NoPerm, "CONFIG": fault.Config,
	} {
		want[fmt.Sprint(code)] = name
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/exit-codes.md:\n%s", diff)
	}
	src, err := os.ReadFile("../internal/fault/fault.go")
	if n := len(regexp.MustCompile(`(?m)^\t[A-Z]\w+ += \d+`).FindAll(src, -1)); err != nil || n != len(want)-2 {
		t.Errorf("internal/fault has %d codes, the page %d: %v", n, len(want)-2, err)
	}
}
