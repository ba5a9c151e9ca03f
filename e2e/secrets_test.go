//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestSecrets: units, process lists, environments and journals contain no secret, and each
// user can read only its own.
func TestSecrets(t *testing.T) {
	inLane(t)
	f := &fleet{Lab: lab.New(t), t: t}
	machines := f.BootAll("collector", "lab-01")
	f.rx, f.hosts = machines[0], machines[1:]
	h := f.hosts[0]
	f.rx.Push(lab.Binary(t), "/root/cis490")
	f.rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	paste := f.rx.Run("cis490 token create lab-01")
	h.Run("cd /root\n" + paste)
	f.waitAccepted(h, 1, 15*time.Second)

	secrets := map[string]string{
		"join token": between(paste, "c490.", " "),
		"bearer":     strings.TrimSpace(h.Read("/etc/cis490/certs/bearer")),
		"operator":   strings.TrimSpace(f.rx.Read("/etc/cis490/operator")),
		"host key":   middle(h.Read("/etc/cis490/certs/lab-host.pem")),
		"CA key":     middle(f.rx.Read("/var/lib/cis490-authority/ca.key")),
	}
	for name, secret := range secrets {
		if len(secret) < 20 {
			t.Fatalf("%s is too short to search for: %q", name, secret)
		}
		for _, m := range []*lab.Host{f.rx, h} {
			m.Write("/root/needle", secret, 0o600)
			for where, command := range map[string]string{
				"units":       "grep -rlFf /root/needle /etc/systemd/system /run/systemd/system",
				"commands":    "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -aFf /root/needle",
				"environment": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -aFf /root/needle",
				"journal":     "journalctl --no-pager -o export | grep -aFf /root/needle",
				"config":      "grep -lFf /root/needle /etc/cis490/*.toml",
				"roster":      "grep -rlFf /root/needle /var/lib/cis490 /var/lib/cis490-authority --include=*.json --include=*.jsonl",
				"doctor":      "cis490 doctor --json | grep -Ff /root/needle",
			} {
				if r := m.Try(command); strings.TrimSpace(r.Out) != "" {
					t.Errorf("%s: %s contains the %s", m.Name, where, name)
				}
			}
			m.Run("rm /root/needle")
		}
	}

	// Files that a user must not read.
	for _, c := range []struct {
		h          *lab.Host
		user, what string
	}{
		{h, "cis490-rec", "/etc/cis490/certs/lab-host.pem"},
		{h, "cis490-rec", "/etc/cis490/certs/bearer"},
		{h, "nobody", "/etc/cis490/certs/lab-host.pem"},
		{f.rx, "cis490", "/var/lib/cis490-authority/ca.key"},
		{f.rx, "cis490", "/var/lib/cis490-authority/tokens.jsonl"},
		{f.rx, "nobody", "/etc/cis490/operator"},
		{f.rx, "nobody", "/var/lib/cis490-authority/server.pem"},
	} {
		c.h.Run("test -e " + c.what)
		if r := c.h.Try("setpriv --reuid=" + c.user + " --regid=$(id -g " + c.user + ") --init-groups cat " + c.what); r.Code == 0 {
			t.Errorf("%s: user %s can read %s", c.h.Name, c.user, c.what)
		}
	}
	checkServeUserIsConfined(t, f.rx)
}

// checkServeUserIsConfined checks that serve's user, even outside its sandbox, cannot
// create, change or read identities. As root the same commands work, which shows that they
// are valid attempts.
func checkServeUserIsConfined(t *testing.T, rx *lab.Host) {
	t.Helper()
	const dir = "/var/lib/cis490-authority/"
	attempts := map[string]string{
		"read the CA key":                "cat " + dir + "ca.key",
		"read the tokens":                "cat " + dir + "tokens.jsonl",
		"read the authority's own key":   "cat " + dir + "authority.pem",
		"write the roster":               "echo >> " + dir + "roster.jsonl",
		"write the tokens":               "echo >> " + dir + "tokens.jsonl",
		"write what was issued":          "echo >> " + dir + "issued.jsonl",
		"write who is trusted":           "echo >> " + dir + "trust.pem",
		"make a file there":              "touch " + dir + "x && rm " + dir + "x",
		"put another roster in place":    "cp " + dir + "roster.jsonl /tmp/r && mv /tmp/r " + dir + "roster.jsonl",
		"make a token":                   "/usr/local/bin/cis490 token create lab-99",
		"list tokens":                    "/usr/local/bin/cis490 token list",
		"rotate the CA":                  "/usr/local/bin/cis490 ca rotate",
		"speak to the admin socket":      "curl -fsS --unix-socket /run/cis490-authority/admin.sock http://authority/v1/tokens",
		"stop the authority":             "kill -TERM $(systemctl show -p MainPID --value cis490-bootstrap)",
		"look into the authority":        "cat /proc/$(systemctl show -p MainPID --value cis490-bootstrap)/environ",
		"change the authority's config":  "echo >> /etc/cis490/receiver.toml",
		"change the authority's program": "echo >> /opt/cis490/current/cis490",
	}
	before := rx.Run("sha256sum " + dir + "* /etc/cis490/receiver.toml")
	for what, command := range attempts {
		if r := rx.Try("setpriv --reuid=cis490 --regid=$(id -g cis490) --init-groups sh -c '" + command + "'"); r.Code == 0 {
			t.Errorf("user cis490 can %s", what)
		}
	}
	if after := rx.Run("sha256sum " + dir + "* /etc/cis490/receiver.toml"); after != before {
		t.Errorf("files of the authority changed:\nbefore:\n%s\nafter:\n%s", before, after)
	}
	for _, what := range []string{
		"read the CA key", "read the tokens", "list tokens", "speak to the admin socket", "look into the authority", "make a file there",
	} {
		if r := rx.Try(attempts[what]); r.Code != 0 {
			t.Errorf("not even root can %s, so the attempt proves nothing: %s", what, r)
		}
	}
}

// between returns the part of s from prefix up to one of the characters of end, a newline
// or a quote.
func between(s, prefix, end string) string {
	i := strings.Index(s, prefix)
	if i < 0 {
		return ""
	}
	s = s[i:]
	if j := strings.IndexAny(s, end+"\n'\""); j >= 0 {
		s = s[:j]
	}
	return s
}

// middle returns the second line of the last PEM block.
func middle(pem string) string {
	i := strings.LastIndex(pem, "-----BEGIN")
	if i < 0 {
		return ""
	}
	lines := strings.Split(pem[i:], "\n")
	if len(lines) < 3 {
		return ""
	}
	return lines[2]
}
