//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// shortExperiment has episodes of 0.3 s that need no CPU time, so that a host ships all the
// time and many hosts fit on one machine.
const shortExperiment = `schema = 1
name = "quick"
[[profile]]
name = "rest"
weight = 1
command = ["/bin/sleep", "0.3"]
[[profile.phase]]
name = "clean"
event = "start"
budget = "10s"
`

// newSite boots a fleet with a config of the site, and installs nothing. The receiver's
// config is its public_url and rx.
func newSite(t *testing.T, rx string, names ...string) *fleet {
	t.Helper()
	f := &fleet{Lab: lab.New(t), t: t}
	machines := f.BootAll(append([]string{"collector"}, names...)...)
	f.rx, f.hosts = machines[0], machines[1:]
	f.rx.Push(lab.Binary(t), "/root/cis490")
	f.rx.Write(receiverConfig, "public_url = \"https://collector.lab:8443\"\n"+rx, 0o644)
	return f
}

// writeBusyConfig writes the config of a host that records short episodes, with a rest
// after each.
func writeBusyConfig(h *lab.Host, rest time.Duration, authority string) {
	h.Write("/etc/cis490/experiment.toml", shortExperiment, 0o644)
	h.Write("/etc/cis490/lab-host.toml", busyConfig(h.Name, rest, authority), 0o644)
}

func busyConfig(name string, rest time.Duration, authority string) string {
	return fmt.Sprintf(`host = %q
[receiver]
url = "https://collector.lab:8443"
[authority]
url = %q
[orchestrate]
experiment = "/etc/cis490/experiment.toml"
max_slots = 1
rest = %q
`, name, authority, rest)
}

const authorityURL = "https://collector.lab:8444"

// accepted returns the number of episodes of the host that the receiver has.
func (f *fleet) accepted(h *lab.Host) int {
	f.t.Helper()
	n := 0
	for _, r := range f.index() {
		if r.Host == h.Name {
			n++
		}
	}
	return n
}

// renewals returns how often a host has renewed its certificate.
func (f *fleet) renewals(h *lab.Host) int {
	f.t.Helper()
	var n int
	out := f.rx.Run(fmt.Sprintf(`grep '"host":"%s"' /var/lib/cis490-authority/issued.jsonl | grep -c '"how":"renewal"' || true`, h.Name))
	if _, err := fmt.Sscan(out, &n); err != nil {
		f.t.Fatalf("issued.jsonl: %q: %v", out, err)
	}
	return n
}

// checkNoneRefused checks that the receiver rejected no request of these hosts, and that
// their shippers logged no failure.
func (f *fleet) checkNoneRefused(hosts ...*lab.Host) {
	f.t.Helper()
	time.Sleep(4 * time.Second) // contacts are written every 3 s
	for _, h := range hosts {
		const trouble = `jq -c '.hosts["%s"] | [.knocks, .claims, .refused_count] | select(any)' /var/lib/cis490/contacts.json; ` +
			`grep '"host":"%s"' /var/lib/cis490/rejections.jsonl || true`
		if out := f.rx.Run(fmt.Sprintf(trouble, h.Name, h.Name)); out != "" {
			f.t.Errorf("%s: the receiver refused:\n%s", h.Name, out)
		}
		if lines := h.Try("journalctl --no-pager -u cis490-shipper | " +
			"grep -E 'not shipped|refused|ping not answered|receiver not reached'").Out; lines != "" {
			f.t.Errorf("%s: the shipper failed:\n%s", h.Name, lines)
		}
	}
}

// stopAndDrain stops the recorders, and autoupdate, which would start them again. Then it
// waits until every host has shipped all its episodes.
func (f *fleet) stopAndDrain() {
	f.t.Helper()
	for _, h := range f.hosts {
		h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator")
	}
	for _, h := range f.hosts {
		h.Eventually(30*time.Second, "all is shipped", `test -z "$(ls /var/lib/cis490/data/outbox /var/lib/cis490/data/episodes | grep -v :)"`)
	}
}

// TestShortLives: certificates are valid for a minute while hosts ship without a pause.
// Each host renews at least thirty times, the server certificates renew by themselves, the
// CA is rotated twice, and one host is off until long after its certificate has expired.
// No PUT fails, and no host loses access.
func TestShortLives(t *testing.T) {
	inLane(t)
	const renewals = 30
	f := newSite(t, "[authority]\ncert_life = \"1m\"\nserver_life = \"1m\"\n", "lab-01", "lab-02", "lab-03")
	f.rx.Run("cd /root && ./cis490 install receiver")
	for _, h := range f.hosts {
		writeBusyConfig(h, 50*time.Millisecond, authorityURL)
		h.Run(`mkdir -p /etc/systemd/system/cis490-cert-fetch.timer.d && ` +
			`printf '[Timer]\nOnBootSec=1s\nOnUnitActiveSec=5s\nRandomizedDelaySec=0\n' > /etc/systemd/system/cis490-cert-fetch.timer.d/lab.conf`)
		f.join(h)
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 1, 60*time.Second)
	}
	sleeper := f.hosts[2]
	slept := time.Now()
	sleeper.PowerOff()
	awake := f.hosts[:2]
	before := map[string]int{}
	for _, h := range awake {
		before[h.Name] = f.accepted(h)
		h.Run(fmt.Sprintf(`systemd-run --quiet --unit=renewals sh -c 'n=0; while [ $n -lt %d ]; do /usr/local/bin/cis490 cert-fetch --renew && `+
			`n=$((n+1)); sleep 1; done'`, renewals))
	}
	for round := 1; round <= 2; round++ {
		for _, h := range awake {
			for end := time.Now().Add(2 * time.Minute); f.renewals(h) < round*renewals/3; time.Sleep(500 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: %d renewals\n%s", h.Name, f.renewals(h), h.Journal("renewals"))
				}
			}
		}
		t.Logf("rotation %d of the CA:\n%s", round, f.rx.Run("cis490 ca rotate"))
	}
	for _, h := range awake {
		h.Eventually(3*time.Minute, "the last renewal", "! systemctl is-active renewals")
		n := f.accepted(h) - before[h.Name]
		t.Logf("%s: %d renewals while %d episodes were accepted", h.Name, f.renewals(h), n)
		if f.renewals(h) < renewals || n < renewals {
			t.Errorf("%s: want %d renewals under load\n%s", h.Name, renewals, h.Journal("renewals"))
		}
	}
	f.rx.Eventually(2*time.Minute, "server certificates renewed thrice after the first",
		`test $(journalctl --no-pager -u cis490-bootstrap | grep -c 'issued a server certificate.*server.pem') -ge 4`)
	if time.Since(slept) < 75*time.Second {
		time.Sleep(75*time.Second - time.Since(slept))
	}
	old := f.accepted(sleeper)
	sleeper.Start()
	f.waitAccepted(sleeper, old+3, 60*time.Second)
	t.Logf("%s was off for %s, its certificate expired, the CA was rotated twice; it ships again", sleeper.Name,
		time.Since(slept).Round(time.Second))
	if trust := f.rx.Run("grep -c BEGIN /var/lib/cis490-authority/trust.pem"); trust != "3" {
		t.Errorf("%s CAs are trusted, want 3", trust)
	}
	for _, h := range f.hosts {
		if r := h.Try("cis490 cert-fetch --status"); r.Code != 0 {
			t.Errorf("%s: %s", h.Name, r)
		}
	}
	f.checkNoneRefused(awake...) // the sleeper's first request had an expired certificate
	f.stopAndDrain()
	f.checkEachStoredOnce()
	if s := f.rx.Journal("cis490-bootstrap"); strings.Contains(s, "level=ERROR") {
		t.Errorf("the authority failed:\n%s", s)
	}
}
