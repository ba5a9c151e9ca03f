//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
	"cis490/receiver/objects/s3test"
)

// Which Markdown is a command, and where it runs:
//
//   - Each line of a block whose language is sh, in the order of the page, as a user with
//     sudo. "sh on=lab-01" runs on that machine, "sh on=db-1,db-2" on both, "sh on=source" in
//     the source tree, a plain "sh" on the receiver, collector. "as=root" runs as root. Later lines of the page see
//     the variables that a line sets.
//   - Text between backticks that begins with "sudo" or "make", or with "cis490" and has a
//     flag, without placeholders: no word in capitals, no "…". It runs after the blocks of
//     its page, on the receiver or, if it fails there, on the host. For make, only the
//     target must exist.
//
// Everything else is not run.

// A step is a command of a page.
type step struct {
	page, on, command string
	inline, root      bool
}

// coveredElsewhere maps sections to the scenario that runs their commands.
func coveredElsewhere() map[string]string {
	return map[string]string{
		"## Behind Caddy": "TestProxy", "## Move the receiver to a new machine": "TestMoveReceiver",
		"## Rows in PostgreSQL": "TestCluster", "## Several receivers": "TestCluster", "## A standby of the authority": "TestCluster",
	}
}

// stepsOf returns the commands of a file, or of one section of it.
func stepsOf(t *testing.T, file, section string) []step {
	t.Helper()
	var blocks, inline []step
	for part := range strings.SplitSeq("\n"+readFile(t, file), "\n## ") {
		heading, _, _ := strings.Cut("## "+part, "\n")
		if section != "" && heading != section || section == "" && coveredElsewhere()[heading] != "" {
			continue
		}
		for i, text := range regexp.MustCompile("(?m)^ *```").Split(part, -1) {
			if i%2 == 1 {
				blocks = append(blocks, stepsOfBlock(filepath.Base(file), text)...)
				continue
			}
			for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
				if isCommand(m[1]) {
					inline = append(inline, step{page: filepath.Base(file), on: "collector", command: m[1], inline: true})
				}
			}
		}
	}
	all := slices.Concat(blocks, inline)
	if section != "" && len(all) == 0 {
		t.Fatalf("%s has no commands in a section %q", file, section)
	}
	return all
}

// stepsOfBlock returns the commands of a block. Its first line has the language.
func stepsOfBlock(page, text string) []step {
	info, body, _ := strings.Cut(text, "\n")
	words := strings.Fields(info)
	if len(words) == 0 || words[0] != "sh" {
		return nil
	}
	s := step{page: page, root: slices.Contains(words, "as=root")}
	machines := []string{"collector"}
	for _, word := range words {
		if on, ok := strings.CutPrefix(word, "on="); ok {
			machines = strings.Split(on, ",")
		}
	}
	var all []step
	for _, s.on = range machines {
		for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(body, "\\\n", "")), "\n") {
			s.command = strings.TrimSpace(line)
			all = append(all, s)
		}
	}
	return all
}

func isCommand(text string) bool {
	if regexp.MustCompile(`…|(^|[\s=/])[A-Z]{1,}\b[^=]|[A-Z]$|/path/`).MatchString(text + " ") {
		return false
	}
	return regexp.MustCompile(`^sudo [a-z]|^make \S|^cis490 .*\s--`).MatchString(text)
}

// The rule distinguishes commands from placeholders and names.
func TestPages_WhatIsACommand(t *testing.T) {
	for text, want := range map[string]bool{
		"sudo cis490 doctor": true, "sudo cis490 host show HOST": false, "cis490 serve": false, "cis490 doctor --deep": true,
		"make bench BENCH=Recording": true, "make bench PEER=/path/to/x": false, "sudo cis490 release promote --seq N": false,
		"echo c490.… | sudo ./cis490 install lab-host --join -": false, "sudo rm /etc/cis490/operator": true, "cis490 COMMAND --help": false,
		"cis490 release list": false, "sudo -u cis490": false, "make demo ARGS='--hosts 3'": true, "meta.json": false,
	} {
		if got := isCommand(text); got != want {
			t.Errorf("%q is a command: %t, want %t", text, got, want)
		}
	}
}

// docsMachines are machines as a page expects them: a user with sudo, names that resolve,
// and a built binary on the receiver.
type docsMachines struct {
	*fleet
	machines map[string]*lab.Host
	paste    string
	vars     map[string]string // by page and machine, the lines that set variables
}

func newDocsMachines(t *testing.T, names ...string) *docsMachines {
	t.Helper()
	l := lab.New(t)
	return docsMachinesOf(t, l, l.BootAll(names...))
}

// docsMachinesOf is newDocsMachines with booted machines. The first is the receiver.
func docsMachinesOf(t *testing.T, l *lab.Lab, machines []*lab.Host) *docsMachines {
	t.Helper()
	d := &docsMachines{fleet: &fleet{Lab: l, t: t, rx: machines[0]}, machines: map[string]*lab.Host{}, vars: map[string]string{}}
	for _, m := range machines {
		d.machines[m.Name] = m
		if strings.HasPrefix(m.Name, "lab-") {
			d.hosts = append(d.hosts, m)
		}
		m.Run("useradd -m ada && echo 'ada ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ada")
		if strings.HasPrefix(m.Name, "collector") || m == d.rx {
			m.Push(lab.Binary(t), "/home/ada/bin/cis490") // what make build leaves
			d.pushRelease(m)                              // what make dist leaves
		}
	}
	return d
}

// pushRelease puts a signed release directory on a machine.
func (d *docsMachines) pushRelease(m *lab.Host) {
	d.t.Helper()
	binary, dir := lab.Binary(d.t), d.t.TempDir()
	sign := fmt.Sprintf("cp %[1]s %[2]s/cis490-linux-%[3]s && %[1]s release sign --keys %[4]s --seq 1"+
		" --version 0.0.0-lab --commit $(git rev-parse HEAD) %[2]s", binary, dir, runtime.GOARCH, d.t.TempDir())
	if out, err := exec.Command("sh", "-c", sign).CombinedOutput(); err != nil {
		d.t.Fatalf("sign a release: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		m.Push(filepath.Join(dir, e.Name()), "/home/ada/dist/0.0.0-lab/"+e.Name())
	}
}

// runAs runs a step's command as that user, for two minutes at most; a command with --watch
// for ten seconds.
func (d *docsMachines) runAs(m *lab.Host, s step, command string) lab.Result {
	d.t.Helper()
	place := s.page + " on " + m.Name
	if variable.MatchString(command) {
		d.vars[place] += command + "\n"
	}
	limit := "120"
	if strings.Contains(command, "--watch") {
		limit = "10"
	}
	m.Write("/home/ada/paste", d.vars[place]+command+"\n", 0o644)
	person := " setpriv --reuid=ada --regid=ada --init-groups"
	if s.root {
		person = ""
	}
	return m.Try("timeout " + limit + person + " env HOME=/home/ada sh -c 'cd /home/ada && . ./paste'")
}

// variable matches a line that sets a variable.
var variable = regexp.MustCompile(`^[a-z]+=`)

// follow runs the steps, and reports each failure.
func (d *docsMachines) follow(steps []step) {
	d.t.Helper()
	for _, s := range steps {
		began := time.Now()
		out := d.runStep(s)
		d.t.Logf("%s: %s$ %s (%.1f s)", s.page, s.on, s.command, time.Since(began).Seconds())
		if out != "" {
			d.t.Errorf("%s: `%s` failed on %s: %s", s.page, s.command, s.on, out)
		}
	}
}

// runStep runs one step and returns the failure, or "".
func (d *docsMachines) runStep(s step) string {
	d.t.Helper()
	if make, ok := strings.CutPrefix(s.command, "make "); ok {
		// Other tests run these targets; here they must exist.
		c := exec.Command("sh", "-c", "make -n "+make)
		c.Dir = ".."
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Sprintf("%v\n%s", err, out)
		}
		return ""
	}
	m := d.machines[s.on]
	if m == nil {
		return "unknown machine"
	}
	command := s.command
	switch {
	case strings.HasPrefix(command, "echo c490."):
		command = d.paste // what token create printed
	case strings.HasSuffix(command, "cis490 status") && !s.inline:
		d.waitAccepted(d.hosts[0], 1, time.Minute) // "seconds later"
	}
	r := d.runAs(m, s, command)
	if s.inline && !succeeded(s, r) {
		r = d.runAs(d.hosts[0], s, command)
	}
	switch {
	case !succeeded(s, r):
		return r.String()
	case strings.Contains(command, "token create lab-01"):
		d.paste = r.Out
	case strings.HasSuffix(command, "cis490 status") && !strings.Contains(r.Out, "lab-01"):
		return "the output does not show lab-01:\n" + r.Out
	}
	return ""
}

// succeeded reports whether a step succeeded. A command with --watch ends by its timeout.
func succeeded(s step, r lab.Result) bool {
	return r.Code == 0 || r.Code == 124 && strings.Contains(s.command, "--watch")
}

// TestReadme runs the README's section "A real fleet" on fresh machines.
func TestReadme(t *testing.T) {
	inLane(t)
	d := newDocsMachines(t, "collector", "lab-01")
	began := time.Now()
	d.follow(stepsOf(t, "../README.md", "## A real fleet"))
	if took := time.Since(began); took > 10*time.Minute {
		t.Errorf("setting up a healthy fleet took %s", took)
	}
	// Missing steps are warnings with their fix, until they are done.
	checks := map[string]string{
		"release.published": "sudo cis490 release publish", "notify.target": "/etc/cis490/notify", "backup.made": "sudo cis490 backup",
	}
	warned := func(want bool) {
		t.Helper()
		out := d.rx.Run("cis490 doctor")
		for id, fix := range checks {
			_, row, found := strings.Cut(out, "warn  "+id)
			_, row, _ = strings.Cut(row, "\n")
			row, _, _ = strings.Cut(row, "\n")
			if found != want || want && (!strings.Contains(row, "fix: on the receiver: ") || !strings.Contains(row, fix)) {
				t.Errorf("warning of %s: %t, want %t, with its fix %q:\n%s", id, found, want, fix, out)
			}
		}
	}
	warned(true)
	if out := d.hosts[0].Run("cis490 status"); !strings.Contains(out, "no release is offered") {
		t.Errorf("status of a host does not show that no release is published:\n%s", out)
	}
	d.follow(stepsOf(t, "../README.md", "## Before you leave the fleet unattended"))
	warned(false)
	// The receiver tries the release, the host's next ping makes it the canary, and its next
	// update gets the release: with the usual intervals, up to 15 minutes.
	setTimer(d.rx, "cis490-autoupdate", 5*time.Second)
	setTimer(d.hosts[0], "cis490-autoupdate", 5*time.Second)
	setConfig(d.hosts[0], "/etc/cis490/lab-host.toml", map[string]string{"ping_every": "15s"})
	d.hosts[0].Run("systemctl restart cis490-shipper")
	d.hosts[0].Eventually(3*time.Minute, "the release reaches the host", "! cis490 status | grep 'no release is offered'")
}

// TestDocs runs the quickstart on fresh machines, and then every other page on the same
// machines. checks.md and cli.md are generated from code that has its own tests.
func TestDocs(t *testing.T) {
	inLane(t)
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	first := []string{"../docs/quickstart.md", "../docs/operations.md", "../docs/coming-from-python.md"}
	last := "../docs/security.md" // revokes identities
	steps := []step{}
	for _, page := range append(first, append(slices.DeleteFunc(pages, func(p string) bool {
		return slices.Contains(first, p) || p == last || p == growing || p == "../docs/checks.md" || p == "../docs/cli.md"
	}), last)...) {
		steps = append(steps, stepsOf(t, page, "")...)
	}
	steps = append(steps, stepsOf(t, "../README.md", "## Try it")...)
	if len(steps) < 40 {
		t.Fatalf("the pages have %d commands, want at least 40", len(steps))
	}
	newDocsMachines(t, "collector", "lab-01", "collector-2").follow(steps)
}

// growing needs an object store, and runs on machines of its own.
const growing = "../docs/growing.md"

// TestGrowing sets up a fleet as the README says, moves it to an object store and back.
func TestGrowing(t *testing.T) {
	inLane(t)
	versitygw, err := s3test.Binary()
	if err == nil {
		_, err = os.Stat(versitygw)
	}
	if err != nil {
		t.Skipf("no versitygw: make versitygw: %v", err)
	}
	d := newDocsMachines(t, "collector", "lab-01")
	d.rx.Push(versitygw, "/usr/local/bin/versitygw")
	d.follow(stepsOf(t, "../README.md", "## A real fleet"))
	d.follow(stepsOf(t, growing, ""))
	d.waitAccepted(d.hosts[0], 2, 2*time.Minute)
}

// readFile returns a file of the project.
func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// blockIn returns the first block of a language in a section of a page.
func blockIn(t *testing.T, file, section, lang string) string {
	t.Helper()
	_, text, ok := strings.Cut(readFile(t, file), "\n"+section+"\n")
	_, text, found := strings.Cut(text, "\n```"+lang+"\n")
	text, _, whole := strings.Cut(text, "\n```")
	if !ok || !found || !whole {
		t.Fatalf("%s has no block of %s below %q", file, lang, section)
	}
	return text + "\n"
}
