package commands_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// argumentsOf returns arguments for a command, by the words of its help. A command with a
// new word in ArgsUsage has to be given a value here.
func argumentsOf(t *testing.T, l leaf) []string {
	t.Helper()
	flags := map[string][]string{
		"archive":      {"--before", "2026-01-01", "--to", "/nonexistent"},
		"restore":      {"--from", "/nonexistent"},
		"debug bundle": {"--out", "/nonexistent/x"},
		"release sign": {"--seq", "1", "--version", "1", "--commit", testCommit},
	}
	args := slices.Clone(flags[strings.Join(l.path, " ")])
	_, usage, _ := strings.Cut(l.help, "USAGE:\n")
	usage, _, _ = strings.Cut(usage, "\n")
	for _, word := range regexp.MustCompile(`[A-Z][A-Z|-]+`).FindAllString(usage, -1) {
		word, _, _ = strings.Cut(word, "|")
		value, ok := map[string]string{
			"HOST": "lab-01", "SYMPTOM": "silent", "DIR": "/nonexistent", "EPISODE": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
			"TARGET": "webhook", "PATTERN": "", "CODE": "123456", "NAME": "notebook", "CHECK": "cert.expiry", "COMMAND": "doctor",
			"VERSION": "v1.0.0",
		}[word]
		if !ok {
			t.Fatalf("%v: what is %s?", l.path, word)
		}
		if value != "" {
			args = append(args, value)
		}
	}
	return args
}

// rawError is what no person should have to read: a status of HTTP, a socket, a Go error.
var rawError = regexp.MustCompile(`\b(?i:get|post|put|delete) "|http://|\.sock|: [45]\d\d |\bdial \w+|` +
	`no such file or directory|permission denied|0x[0-9a-f]{6}|\bHOST\b|<nil>`)

// TestErrors_OfEveryCommand runs every command on the wrong machine, without a role, without
// root and with a typo, and compares what it prints with golden files.
func TestErrors_OfEveryCommand(t *testing.T) {
	t.Parallel()
	all := leaves(t, func([]string) {})
	belongs := func(l leaf) string { // where it reads its config
		if m := regexp.MustCompile(`--config FILE .*default: ".*/([a-z-]+)\.toml"`).FindStringSubmatch(l.help); m != nil {
			return m[1]
		}
		return ""
	}
	hasRole := func(l leaf) bool { return belongs(l) != "" || strings.Contains(l.help, "--role ROLE") }
	daemons := []string{"serve", "bootstrap", "ship", "orchestrate", "fleet-check"} // they log
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) { // for any user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program(t, dir)
	data := filepath.Join(dir, "data")
	lab := fmt.Sprintf(`host = "lab-01"
data_dir = %[1]q
certs_dir = %[1]q
[receiver]
url = "https://127.0.0.1:1"
[authority]
url = "https://127.0.0.1:1"
`, data)
	rx := fmt.Sprintf(`public_url = "https://127.0.0.1:1"
data_dir = %[1]q
operator_file = "%[1]s/operator"
[authority]
dir = %[1]q
socket = "/nonexistent/a.sock"
`, data)
	for name, c := range map[string]struct {
		files  map[string]string
		only   func(leaf) bool // which commands
		args   func(leaf) []string
		nobody bool
	}{
		"on_a_lab_host":  {files: map[string]string{"lab-host.toml": lab}, only: func(l leaf) bool { return belongs(l) == "receiver" }},
		"on_a_receiver":  {files: map[string]string{"receiver.toml": rx}, only: func(l leaf) bool { return belongs(l) == "lab-host" }},
		"without_a_role": {only: hasRole},
		"without_root": {files: map[string]string{"lab-host.toml": lab, "receiver.toml": rx}, nobody: true, only: func(l leaf) bool {
			return hasRole(l) && !slices.Contains(daemons, l.path[0]) || slices.Contains([]string{"install", "uninstall", "autoupdate"}, l.path[0])
		}},
		"uninstall_on_a_lab_host": {files: map[string]string{"lab-host.toml": lab}, nobody: true, only: func(l leaf) bool {
			return l.path[0] == "uninstall"
		}},
		"with_a_typo": {args: func(l leaf) []string {
			last := l.path[len(l.path)-1]
			return append(slices.Clone(l.path[:len(l.path)-1]), last[:len(last)-1]+"x")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.nobody && os.Geteuid() != 0 {
				t.Skip("only root can become another user")
			}
			etc := filepath.Join(dir, name)
			for file, content := range c.files {
				put(t, filepath.Join(etc, file), content)
			}
			if c.nobody {
				if err := os.MkdirAll(data, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			var got strings.Builder
			for _, l := range all {
				if c.only != nil && !c.only(l) {
					continue
				}
				args := append(slices.Clone(l.path), argumentsOf(t, l)...)
				if c.args != nil {
					args = c.args(l)
				}
				var as *syscall.Credential
				if c.nobody {
					as = &syscall.Credential{Uid: 65534, Gid: 65534}
				}
				fmt.Fprintf(&got, "$ cis490 %s\n%s\n", strings.Join(args, " "), attempt(t, etc, as, args, dir))
			}
			text := strings.ReplaceAll(got.String(), dir, "DIR")
			for line := range strings.Lines(text) {
				if bad := rawError.FindString(line); bad != "" {
					t.Errorf("%q is nothing for people: %s", bad, line)
				}
			}
			golden := filepath.Join("testdata", "errors", name+".golden")
			if *update {
				put(t, golden, text)
			}
			want, err := os.ReadFile(golden)
			if diff := cmp.Diff(string(want), text); diff != "" || err != nil {
				t.Errorf("%s (make golden): %v\n%s", golden, err, diff)
			}
		})
	}
}

// attempt runs the program, as another user unless as is nil, and returns its exit code and
// what it printed.
func attempt(t *testing.T, etc string, as *syscall.Credential, args []string, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a command that hangs
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, dir), args...)
	cmd.Env, cmd.Dir = []string{"CIS490_TEST_ETC=" + etc, "NO_COLOR=1", "PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE")}, dir
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("%v: %v", args, err)
	} else if ok && !exit.Exited() {
		t.Fatalf("%v: %v\n%s", args, err, errOut.String())
	}
	shown := ""
	if out.Len() > 0 {
		shown = fmt.Sprintf("(%d lines on standard output)\n", strings.Count(out.String(), "\n"))
	}
	if args[0] == "doctor" { // what fails depends on the machine
		shown = "(a report on standard output)\n"
	}
	log := regexp.MustCompile(`(?m)^time=.*\n`)
	if args[0] == "doctor" && (as == nil || as.Uid != 65534) { // its report is its result
		return fmt.Sprintf("exit %d\n%s", cmd.ProcessState.ExitCode(), out.String())
	}
	return fmt.Sprintf("exit %d\n%s%s", cmd.ProcessState.ExitCode(), shown, log.ReplaceAllString(errOut.String(), ""))
}

// program returns the path of a copy of this program that any user can run.
func program(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "cis490")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(path, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func put(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
