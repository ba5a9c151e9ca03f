//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// The pace of these scenarios: a trial lasts 20 seconds instead of 10 minutes, and
// autoupdate runs every 10 seconds instead of every 5 minutes.
const fastUpdateScript = `set -e
f=/etc/cis490/$1
sed -i 's/^# trial = .*/trial = "20s"/; s/^# watch = .*/watch = "4s"/; s/^# ping_every = .*/ping_every = "3s"/' $f
sed -i 's/^# rest = .*/rest = "5s"/' $f
sed -i 's/^# disk_reserve = .*/disk_reserve = "8 MiB"/' $f
d=/etc/systemd/system/cis490-autoupdate.timer.d && mkdir -p $d
printf '[Timer]\nOnBootSec=\nOnUnitActiveSec=\nRandomizedDelaySec=0\nOnBootSec=3s\nOnUnitActiveSec=10s\n' >$d/lab.conf
systemctl daemon-reload
systemctl restart $2
systemctl restart cis490-autoupdate.timer
systemctl start --no-block cis490-autoupdate.service`

// commitOf returns the commit of a version in these scenarios.
func commitOf(version string) string {
	return fmt.Sprintf("%040x", []byte(version + strings.Repeat("\x00", 20))[:20])
}

// updates is a fleet that runs a published release, v1, and updates itself to the next
// ones.
type updates struct {
	*fleet
	keys string
	seq  int
}

func newUpdates(t *testing.T, hosts []string, options ...lab.Option) *updates {
	t.Helper()
	return updatesIn(t, lab.New(t), hosts, options...)
}

// updatesIn is newUpdates in an existing lab.
func updatesIn(t *testing.T, l *lab.Lab, hosts []string, options ...lab.Option) *updates {
	t.Helper()
	u := &updates{fleet: &fleet{Lab: l, t: t}, keys: t.TempDir()}
	u.rx = u.Boot("collector")
	v1 := lab.BinaryWith(t, "v1", commitOf("v1"))
	u.rx.Push(v1, "/root/v1/cis490-linux-amd64")
	u.rx.Run("cp /root/v1/cis490-linux-amd64 /root/cis490 && chmod +x /root/cis490 && " +
		"/root/cis490 install receiver --public-url https://collector.lab:8443")
	u.rx.Run(fastUpdates("receiver.toml", "cis490-receiver cis490-bootstrap"))
	u.chooseStore()
	u.publish("v1", v1)
	u.waitStage("v1", "canary", 60*time.Second) // the receiver runs it already
	for _, name := range hosts {
		u.add(name, options...)
	}
	u.rx.Run("cis490 release promote --seq 1 --force") // the hosts run it already
	for _, h := range u.hosts {
		u.waitAccepted(h, 1, 60*time.Second)
	}
	return u
}

// add joins a host.
func (u *updates) add(name string, options ...lab.Option) *lab.Host {
	u.t.Helper()
	h := u.Boot(name, options...)
	u.hosts = append(u.hosts, h)
	u.join(h)
	h.Run(fastUpdates("lab-host.toml", "cis490-shipper cis490-orchestrator"))
	return h
}

// fastUpdates returns the command that shortens trials and timers on a machine with this
// config file and these daemons.
func fastUpdates(config, daemons string) string {
	return fmt.Sprintf("sh -c '%s' sh %s '%s'", strings.ReplaceAll(fastUpdateScript, "'", `'\''`), config, daemons)
}

// stopAutoupdate stops autoupdate and its timer. A running autoupdate would start the timer
// again.
func stopAutoupdate(h *lab.Host) {
	h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service")
}

// publish signs a release, copies it to the receiver and publishes it there.
func (u *updates) publish(version, binary string, more ...string) {
	u.t.Helper()
	u.rx.Run("cis490 release publish " + u.sign(version, binary, more...))
}

// sign signs a release on this machine, which has the keys, and returns its folder on the
// receiver.
func (u *updates) sign(version, binary string, more ...string) (folder string) {
	u.t.Helper()
	u.seq++
	dir := filepath.Join(u.t.TempDir(), version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		u.t.Fatal(err)
	}
	for name, path := range map[string]string{"cis490-linux-amd64": binary, "experiment.toml": strings.Join(more, "")} {
		if path == "" {
			continue
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o755)
		}
		if err != nil {
			u.t.Fatal(err)
		}
	}
	cmd := exec.Command(lab.BinaryWith(u.t, "v1", commitOf("v1")), "release", "sign", "--keys", u.keys, "--seq", fmt.Sprint(u.seq),
		"--version", version, "--commit", commitOf(version), dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		u.t.Fatalf("sign %s: %v\n%s", version, err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		u.t.Fatal(err)
	}
	folder = "/root/rel-" + version
	for _, e := range entries {
		u.rx.Push(filepath.Join(dir, e.Name()), folder+"/"+e.Name())
	}
	return folder
}

// waitStage waits until a release has reached a stage.
func (u *updates) waitStage(version, stage string, limit time.Duration) {
	u.t.Helper()
	u.rx.Eventually(limit, version+" reaches stage "+stage,
		fmt.Sprintf(`s=$(cis490 release list --json); printf '%%s\n' "$s"; printf '%%s\n' "$s" | jq -se 'any(.[0][]; `+
			`.version == "%s" and (.stage == "%s" or (.stage == "all" and "%[2]s" != "withdrawn")))'`, version, stage))
}

// waitVersion waits until a version has passed its trial on a host.
func (u *updates) waitVersion(h *lab.Host, version string, limit time.Duration) {
	u.t.Helper()
	h.Eventually(limit, version+" has passed its trial on "+h.Name,
		fmt.Sprintf(`cat /opt/cis490/autoupdate.json; jq -e '.good.version == "%s" and .trial == null' /opt/cis490/autoupdate.json && `+
			`test "$(readlink /opt/cis490/current)" = versions/%[1]s && cis490 version | grep -q '%[1]s'`, version))
}

// waitCanary waits until a release has a canary, and returns that host.
func (u *updates) waitCanary(version string) *lab.Host {
	u.t.Helper()
	name := u.rx.Eventually(60*time.Second, "a canary of "+version,
		fmt.Sprintf(`cis490 release list --json | jq -ser '[.[0][] | select(.version == "%s") | .canaries[0]][0]'`, version))
	return u.Host(strings.TrimSpace(name))
}

// buildPatched builds a version from a copy of the source tree with edits.
func buildPatched(t *testing.T, version string, env []string, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	files, err := exec.Command("git", "-C", root, "ls-files").Output()
	if err != nil {
		t.Fatalf("list the source: %v", err)
	}
	for name := range strings.FieldsSeq(string(files)) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755)
		}
		for _, e := range edits {
			if e.file == name {
				if !strings.Contains(string(b), e.old) {
					t.Fatalf("%s has no %q", name, e.old)
				}
				b = []byte(strings.Replace(string(b), e.old, e.with, 1))
			}
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(tree, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(tree, "built")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-X main.buildVersion="+version+" -X main.buildCommit="+commitOf(version), "-o", out, ".")
	cmd.Dir = tree
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", version, err, text)
	}
	return out
}

// An edit replaces the first occurrence of old in a source file.
type edit struct{ file, old, with string }

// quiesce stops autoupdate and recording, and waits until all episodes are stored, so that
// both sides can be compared.
func (u *updates) quiesce() {
	u.t.Helper()
	for _, h := range u.hosts {
		stopAutoupdate(h)
		h.Run("systemctl stop cis490-orchestrator")
	}
	for _, h := range u.hosts {
		h.Eventually(90*time.Second, "no tarball waits on "+h.Name, `test -z "$(ls /var/lib/cis490/data/outbox | grep zst)"`)
	}
	for end := time.Now().Add(90 * time.Second); len(u.sums()) != len(u.index()); {
		if time.Now().After(end) {
			u.t.Fatalf("%d files and %d rows", len(u.sums()), len(u.index()))
		}
	}
}
