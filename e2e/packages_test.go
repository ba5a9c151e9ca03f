//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestSetup_WithoutGo follows docs/packages.md on machines that have neither Go nor the
// program: from the package by a code, by install.sh with a token, by cloud-init, and by
// Ansible.
func TestSetup_WithoutGo(t *testing.T) {
	inLane(t)
	f := fleetIn(t, lab.New(t, "cloud-init", "ansible-core"))
	page := readFile(t, "../docs/packages.md")
	const url = "https://collector.lab:8443/install.sh"
	sum := strings.Fields(f.rx.Run(stepsOf(t, "../docs/packages.md", "")[0].command))[0]
	f.rx.Run("cis490 token create 'lab-*' --uses 3 --json > /root/token.json")
	token := f.rx.Run("jq -r .[0].token /root/token.json")
	f.hosts = f.BootAll("lab-01", "lab-02", "lab-03", "lab-04")
	for _, h := range f.hosts {
		if r := h.Try("command -v cis490 go"); r.Code == 0 {
			t.Fatalf("%s has %s", h.Name, r.Out)
		}
	}

	h := f.hosts[0]
	h.Push(debOf(t), "/root/cis490.deb")
	if out := h.Run("dpkg -i /root/cis490.deb"); !strings.Contains(out, "sudo cis490 install lab-host --receiver") {
		t.Errorf("the package prints no next step:\n%s", out)
	}
	h.Run("id cis490 && id cis490-rec && id cis490-ca && test -d /opt/cis490")
	f.approve(h, "cis490 install lab-host --receiver https://collector.lab:8443")
	if got := h.Run("/usr/bin/cis490 version && readlink -f $(command -v cis490)"); !strings.Contains(got, "/opt/cis490/versions/") {
		t.Errorf("the package's command is not the installed version: %s", got)
	}

	h = f.hosts[1]
	h.RunIn(token+"\n", "cat >/root/token")
	h.Run("curl -fsSk " + url + " | sh -s -- --token /root/token")

	h = f.hosts[2]
	text := strings.NewReplacer("TOKEN", token, "SHA256", sum).Replace(block(t, page, "## cloud-init"))
	h.Run("mkdir -p /var/lib/cloud/seed/nocloud && echo 'instance-id: i-1' >/var/lib/cloud/seed/nocloud/meta-data")
	h.RunIn(text, "cat >/var/lib/cloud/seed/nocloud/user-data")
	h.Write("/etc/cloud/cloud.cfg.d/99-lab.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n"+
		// A container has no disks, keys and locales to set up.
		"cloud_init_modules: [write_files]\ncloud_config_modules: [runcmd]\ncloud_final_modules: [scripts_user]\n", 0o644)
	if r := h.Try("cloud-init schema -c /var/lib/cloud/seed/nocloud/user-data"); r.Code != 0 {
		t.Errorf("cloud-init schema: %s", r)
	}
	h.Run("cloud-init init --local && cloud-init init && cloud-init modules --mode=config && cloud-init modules --mode=final")

	h = f.hosts[3]
	h.RunIn(block(t, page, "## Ansible"), "cat >/root/play.yml")
	play := "ANSIBLE_NOCOWS=1 LC_ALL=C.UTF-8 ansible-playbook -c local -i '" + h.Name + ",' /root/play.yml" +
		" -e 'hosts=all cis490_script_sha256=" + sum + " cis490_token=" + token + "'"
	h.Run("sed -i 's/hosts: lab/hosts: all/' /root/play.yml && " + play)
	if out := h.Run(play); !strings.Contains(out, "changed=0") {
		t.Errorf("a second play changes something:\n%s", out)
	}

	for _, h := range f.hosts {
		f.waitAccepted(h, 1, time.Minute)
		if r := h.Try("cis490 doctor"); r.Code != 0 {
			t.Errorf("%s: doctor: %s", h.Name, r)
		}
	}
	// The room's token has admitted as many as it may.
	if list := f.rx.Run("cis490 token list"); !regexp.MustCompile(`lab-\* \(3 of 3 used\) +used`).MatchString(list) {
		t.Errorf("token list:\n%s", list)
	}
	f.checkEachStoredOnce()
}

// approve runs a command on a host that shows a code, and approves the code.
func (f *fleet) approve(h *lab.Host, command string) {
	f.t.Helper()
	h.Run("systemd-run --unit joining --collect sh -c '" + command + " >/root/joining 2>&1; echo ended $? >>/root/joining'")
	code := h.Eventually(time.Minute, "a code is shown", `grep -o 'approve [0-9]\{6\}' /root/joining`)
	if waits := f.rx.Run("cis490 host pending"); !strings.Contains(waits, h.Name) || strings.Contains(waits, strings.Fields(code)[1]) {
		f.t.Errorf("host pending, while %s shows %q:\n%s", h.Name, code, waits)
	}
	root := strings.Fields(h.Run("grep ^CA /root/joining"))[1]
	if out := f.rx.Run("cis490 host " + code); !strings.Contains(out, root) {
		f.t.Errorf("the host shows root %s, the receiver\n%s", root, out)
	}
	h.Eventually(time.Minute, "the install ends well", "grep -q 'ended 0' /root/joining || { cat /root/joining; false; }")
}

// debOf builds the package of the lab's binary as 'make packages' does, and returns its path.
func debOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	platform := "linux-" + runtime.GOARCH
	for _, args := range [][]string{
		{"cp", lab.Binary(t), filepath.Join(dir, "cis490-"+platform)},
		{"make", "-C", "..", "packages", "RELEASE=" + dir, "PLATFORMS=" + platform, "VERSION=v0.0.0-lab"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"NOTICES", "sbom.cdx.json", "SHA256SUMS"} {
		if len(readFile(t, filepath.Join(dir, name))) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %v, %v", debs, err)
	}
	return debs[0]
}

// block returns the first code block of a section.
func block(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, _ := strings.Cut(page, "\n"+heading+"\n")
	parts := strings.SplitN(rest, "```", 3)
	if len(parts) < 3 {
		t.Fatalf("no code block in %s", heading)
	}
	_, text, _ := strings.Cut(parts[1], "\n")
	return text
}
