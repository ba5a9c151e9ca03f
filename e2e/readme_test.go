//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestReadme runs the README's commands for a real fleet as they are written,
// as a person with sudo, one by one, on fresh machines.
func TestReadme(t *testing.T) {
	t.Parallel()
	followed(t, commandsOf(t, "../README.md", "## A real fleet"))
}

// TestDocs does so with the quickstart, and on the same machines with what the
// pages about a running fleet have to type.
func TestDocs(t *testing.T) {
	t.Parallel()
	var commands []string
	for _, page := range []string{"quickstart.md", "operations.md", "coming-from-python.md"} {
		commands = append(commands, commandsOf(t, "../docs/"+page, "")...)
	}
	if len(commands) < 10 {
		t.Fatalf("the pages have only %d commands", len(commands))
	}
	followed(t, commands)
}

// followed runs commands that begin with nothing and lead to a fleet.
func followed(t *testing.T, commands []string) {
	t.Helper()
	f := &fleet{Lab: lab.New(t), t: t}
	machines := f.BootAll("collector", "lab-01")
	f.rx, f.hosts = machines[0], machines[1:]
	for _, m := range machines {
		m.Run("useradd -m ada && echo 'ada ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ada")
	}
	f.rx.Push(lab.Binary(t), "/home/ada/bin/cis490") // what make build leaves
	as := func(m *lab.Host, command string) string {
		t.Helper()
		m.Write("/home/ada/paste", command+"\n", 0o644)
		return m.Run("setpriv --reuid=ada --regid=ada --init-groups env HOME=/home/ada sh -c 'cd /home/ada && . ./paste'")
	}
	var paste string
	for _, command := range commands {
		t.Logf("$ %s", command)
		switch {
		case command == "make build":
		case strings.HasPrefix(command, "echo c490."):
			as(f.hosts[0], paste)
		case strings.Contains(command, "token create"):
			paste = as(f.rx, command)
		case strings.HasSuffix(command, "cis490 status"):
			f.waitAccepted(f.hosts[0], 1, 15*time.Second)
			if out := as(f.rx, command); !strings.Contains(out, "lab-01") {
				t.Errorf("status does not show lab-01:\n%s", out)
			}
		case strings.Contains(command, "doctor"):
			for _, m := range machines {
				as(m, command)
			}
		default:
			as(f.rx, command)
		}
	}
	if paste == "" {
		t.Fatal("no token was made")
	}
}

// commandsOf returns the lines of the code blocks below a heading, or of a whole
// file. A block that says what language it is in is for no shell.
func commandsOf(t *testing.T, file, heading string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	section := string(b)
	if heading != "" {
		_, rest, ok := strings.Cut(section, heading+"\n")
		if !ok {
			t.Fatalf("%s has no %q", file, heading)
		}
		section, _, _ = strings.Cut(rest, "\n## ")
	}
	var commands []string
	for i, block := range strings.Split(section, "```") {
		if i%2 == 1 && strings.HasPrefix(block, "\n") {
			commands = append(commands, strings.Split(strings.TrimSpace(block), "\n")...)
		}
	}
	return commands
}
