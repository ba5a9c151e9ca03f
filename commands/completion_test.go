package commands_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shellScripts returns, for each shell, a program that prints what its completion offers for
// the words in its arguments, of which the last is being typed.
func shellScripts() map[string]string {
	return map[string]string{
		"bash": `source <(cis490 completion bash); compopt() { :; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cis490; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh": `compdef() { :; }; _files() { :; }; _describe() { print -l -- "${(@P)2}"; }
source <(cis490 completion zsh); words=("$@"); CURRENT=$#; _cis490`,
		"fish": `cis490 completion fish | source; complete -C (string join ' ' -- $argv)`,
	}
}

// TestCompletion_InEachShell: commands, flags also after --, and values are completed by the
// script of each shell.
func TestCompletion_InEachShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program(t, dir)
	put(t, filepath.Join(dir, "etc", "lab-host.toml"), "host = \"lab-07\"\n"+
		"[receiver]\nurl = \"https://a.lab:8443\"\n[authority]\nurl = \"https://a.lab:8444\"\n")
	for shell, script := range shellScripts() {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			for _, c := range []struct {
				words string // the last one is being typed
				want  string
			}{
				{"doc", "doctor"},
				{"alerts ", "list"},
				{"doctor --", "--json"},
				{"doctor --only cert.exp", "cert.expiry"},
				{"doctor --role ", "receiver"},
				{"alerts silence lab-01 sil", "silent"},
				{"explain cert.exp", "cert.expiry"},
				{"episode list --state ", "quarantined"},
				{"host show ", "lab-07"},
				{"help tok", "token"},
			} {
				args := append([]string{"cis490"}, strings.Split(c.words, " ")...)
				cmd := exec.Command(path, append([]string{"-c", script, "x"}, args...)...)
				if shell == "fish" {
					cmd = exec.Command(path, append([]string{"--no-config", "-c", script, "--"}, args...)...)
				}
				cmd.Env = []string{
					"PATH=" + dir + ":" + os.Getenv("PATH"), "CIS490_TEST_ETC=" + dir + "/etc", "HOME=" + dir,
					"GORACE=" + os.Getenv("GORACE"),
				}
				out, err := cmd.CombinedOutput()
				var words []string
				for line := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
					if shell == "zsh" {
						word, _, _ = strings.Cut(word, ":")
					}
					words = append(words, word)
				}
				if err != nil || !slices.Contains(words, c.want) || strings.Contains(fmt.Sprint(words), "__complete") {
					t.Errorf("cis490 %s<TAB>: %v: %q, want %s", c.words, err, out, c.want)
				}
			}
		})
	}
}
