//go:build e2e

package lab_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// endVariable makes TestVictim run in another process; its value is how it ends.
const endVariable = "CIS490_LAB_TEST_END"

// TestVictim is started by the tests below. It has a running host, a stopped host, a
// small disk and a program at the switch, and then ends badly.
func TestVictim(t *testing.T) {
	end := os.Getenv(endVariable)
	if end == "" {
		t.Skip("only runs as the victim of the other tests")
	}
	l := lab.New(t)
	h := l.Boot("lab-01", lab.WithTmpfs("/var/lib/cis490", "1M"))
	l.Boot("lab-02").Crash()
	h.Run("logger -t scenario last words; sleep 300 &")
	h.Write("/etc/cis490/certs/bearer", "a-secret", 0o600)
	if err := l.Command("sleep", "600.490").Start(); err != nil {
		t.Fatal(err)
	}
	switch end {
	case "fatal":
		h.Run("echo what the command said >&2; false")
	case "panic":
		panic("a bug in a scenario")
	case "wait":
		h.Eventually(time.Second, "pigs fly", "echo no wings; false")
	default:
		fmt.Fprintln(os.Stderr, "ready")
		h.Run("sleep 60")
	}
}

func TestFailure_SavesLogsAndCleansUp(t *testing.T) {
	for end, want := range map[string]string{
		"fatal": "what the command said",
		"panic": "a bug in a scenario",
		"wait":  "pigs fly",
	} {
		t.Run(end, func(t *testing.T) {
			logs := t.TempDir()
			cmd := victim(t, end, logs)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("want a failure with %q, got %v:\n%s", want, err, out)
			}
			id := labID(t, string(out))
			expectNothingLeft(t, id)
			dir := filepath.Join(logs, "TestVictim", id)
			for file, want := range map[string]string{
				"lab-01/journal.txt": "last words",
				"lab-01/files.txt":   "bearer",
				"lab-01/units.txt":   "0 loaded units listed",
				"lab-01/console.txt": "Multi-User",
				"lab-02/journal.txt": "systemd",
				"lab-02/units.txt":   "off",
			} {
				text, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || !strings.Contains(string(text), want) {
					t.Errorf("%s has no %q (%v):\n%s", file, want, err, text)
				}
				if strings.Contains(string(text), "a-secret") {
					t.Errorf("%s shows a secret", file)
				}
			}
		})
	}
}

func TestInterrupt_CleansUp(t *testing.T) {
	id := endBySignal(t, syscall.SIGINT)
	expectNothingLeft(t, id)
}

func TestKill_IsSweptByTheNextLab(t *testing.T) {
	id := endBySignal(t, syscall.SIGKILL)
	if len(traces(t, id)) == 0 {
		t.Fatalf("the killed lab %s left nothing behind: the test proves nothing", id)
	}
	lab.New(t)
	expectNothingLeft(t, id)
}

func victim(t *testing.T, end, logs string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), endVariable+"="+end, "CIS490_LAB_LOGS="+logs)
	return cmd
}

// endBySignal starts a victim, sends it the signal once it is up, waits for its end and
// returns the id of its lab.
func endBySignal(t *testing.T, signal syscall.Signal) string {
	t.Helper()
	cmd := victim(t, "signal", t.TempDir())
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close() // the victim has it
	var out strings.Builder
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		out.WriteString(lines.Text() + "\n")
		if lines.Text() == "ready" {
			if err := cmd.Process.Signal(signal); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("a victim survived %v:\n%s", signal, &out)
	}
	return labID(t, out.String())
}

func labID(t *testing.T, output string) string {
	t.Helper()
	found := regexp.MustCompile(`lab ([0-9a-f]{6}): lab-01 `).FindStringSubmatch(output)
	if found == nil {
		t.Fatalf("the victim booted no host:\n%s", output)
	}
	return found[1]
}

func expectNothingLeft(t *testing.T, id string) {
	t.Helper()
	if left := traces(t, id); len(left) > 0 {
		t.Errorf("lab %s left behind:\n%s", id, strings.Join(left, "\n"))
	}
}

// traces lists all processes, mounts, namespaces, cgroups and folders with the lab's id.
func traces(t *testing.T, id string) []string {
	t.Helper()
	const script = `
		grep -sal "^sleep.600\.490" /proc/[0-9]*/cmdline
		grep -saF "$1" /proc/[0-9]*/cgroup | grep -v "(deleted)$" # zombies that init has not reaped yet
		grep -saFl "$1" /proc/[0-9]*/mountinfo
		ls -d /run/netns/*"$1"* /run/systemd/nspawn/*/*"$1"* 2>/dev/null
		find /sys/fs/cgroup -name "*$1*"
		find "${CIS490_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cis490-lab}/runs" -name "*$1*"
		true`
	out, err := exec.Command("sh", "-c", script, "sh", id).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}
