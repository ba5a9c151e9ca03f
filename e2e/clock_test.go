//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// skewedReceiver is a receiver with a wrong clock: a virtual machine.
type skewedReceiver struct {
	*lab.Guest
	t *testing.T
}

func newSkewedReceiver(t *testing.T, l *lab.Lab, off time.Duration) *skewedReceiver {
	t.Helper()
	rx := &skewedReceiver{l.BootGuest("collector", off), t}
	rx.Push(lab.Binary(t), "/root/cis490")
	rx.Run(fmt.Sprintf("mkdir -p /etc/cis490 && cat >/etc/cis490/receiver.toml <<'end'\n"+
		"public_url = \"https://collector.lab:8443\"\n[fleet]\nsilent_after = %q\nend\ncd /root && ./cis490 install receiver", silentAfter))
	rx.Run(fmt.Sprintf("mkdir -p /etc/systemd/system/cis490-fleet-health.timer.d && "+
		"printf '[Timer]\\nOnBootSec=\\nOnUnitActiveSec=\\nOnBootSec=1s\\nOnUnitInactiveSec=%s\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n' "+
		">/etc/systemd/system/cis490-fleet-health.timer.d/lab.conf && systemctl daemon-reload && "+
		"systemctl restart cis490-fleet-health.timer", checkEvery))
	return rx
}

// rebootWithClock cuts the power and boots with this clock offset.
func (rx *skewedReceiver) rebootWithClock(off time.Duration) {
	rx.t.Helper()
	rx.CutPower()
	rx.SetClock(off)
	rx.PowerOn()
	rx.Eventually(3*time.Minute, "readiness", "curl -fsk https://localhost:8443/readyz")
}

// correctClock sets the clock to this machine's.
func (rx *skewedReceiver) correctClock() {
	rx.t.Helper()
	rx.Run(fmt.Sprintf("date -s @%d", time.Now().Unix()))
}

// waitTwoEpisodes waits for two new episodes of a host.
func (rx *skewedReceiver) waitTwoEpisodes(host string) {
	rx.t.Helper()
	count := fmt.Sprintf(`grep -c '"host":"%s"' /var/lib/cis490/index.jsonl || true`, host)
	var n int
	_, _ = fmt.Sscan(rx.Run(count), &n)
	rx.Eventually(4*time.Minute, "episodes of "+host, fmt.Sprintf(`test $(%s) -ge %d`, count, n+2))
}

// alertRows returns the rows of alerts.jsonl as "host symptom state".
func (rx *skewedReceiver) alertRows() (all []string) {
	rx.t.Helper()
	for line := range strings.Lines(rx.Run("cat /var/lib/cis490/alerts.jsonl 2>/dev/null || true")) {
		var a alert
		if err := json.Unmarshal([]byte(line), &a); err == nil && a.Host != "" {
			all = append(all, a.Host+" "+a.Symptom+" "+a.State)
		}
	}
	return all
}

// TestClock_ReceiverBehindThenAhead: after a power cut the receiver's clock is a day
// behind; after another, 8 hours ahead. Each time the clock is corrected while it runs. No
// shipping host becomes silent, a stopped host does, and fleet-check never waits for the
// clock to catch up.
func TestClock_ReceiverBehindThenAhead(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	l := lab.New(t)
	rx := newSkewedReceiver(t, l, 0)
	hosts := l.BootAll("lab-01", "lab-02")
	for _, h := range hosts {
		h.Run("echo " + rx.Addr + " collector.lab collector >>/etc/hosts")
		h.Write("/etc/cis490/experiment.toml", shortExperiment, 0o644)
		h.Write("/etc/cis490/lab-host.toml", busyConfig(h.Name, 5*time.Second, authorityURL)+"[ship]\nping_every = \"15s\"\n", 0o644)
		h.Run("cd /root\n" + rx.Run("cis490 token create "+h.Name))
		delayAutoupdate(h)
	}
	rx.waitTwoEpisodes("lab-01")
	rx.waitTwoEpisodes("lab-02")
	for _, off := range []time.Duration{-24 * time.Hour, 8 * time.Hour} {
		rx.rebootWithClock(off)
		rx.waitTwoEpisodes("lab-01")
		rx.waitTwoEpisodes("lab-02")
		began := time.Now()
		rx.Eventually(4*time.Minute, "the alert of the receiver's clock",
			`cis490 alerts list --json | jq -se 'any(.[0][]; .host == "@receiver" and .symptom == "clock")'`)
		t.Logf("off by %v: alert after %s", off, time.Since(began).Round(time.Second))
		rx.correctClock()
		began = time.Now()
		rx.Eventually(2*time.Minute, "a run of fleet-check by the correct clock",
			`jq -e 'now - (.at | sub("\\.[0-9]+"; "") | fromdate) | . > -5 and . < 60' /var/lib/cis490/fleet-check.json`)
		t.Logf("corrected: fleet-check ran after %s", time.Since(began).Round(time.Second))
		rx.Eventually(3*time.Minute, "the end of the clock's alert", `cis490 alerts list --json | jq -se 'all(.[0][]; .symptom != "clock")'`)
		rx.waitTwoEpisodes("lab-01")
		rx.waitTwoEpisodes("lab-02")
	}
	for _, row := range rx.alertRows() {
		if strings.HasSuffix(row, " firing") && row != "@receiver clock firing" {
			t.Errorf("false alert: %s", row)
		}
	}
	if out := rx.Run(`jq -r '.receiver.outages[] | select(.to and .to < .from) | tojson' /var/lib/cis490/contacts.json`); out != "" {
		t.Errorf("outages that end before they begin: %s", out)
	}
	if r := rx.Try("cis490 doctor --role receiver --only clock.ledger --only fleetcheck.last"); r.Code != 0 {
		t.Errorf("doctor: %s", r)
	}
	hosts[1].Run("systemctl stop cis490-orchestrator cis490-shipper")
	began := time.Now()
	rx.Eventually(silentAfter+3*time.Minute, "the alert of lab-02",
		`cis490 alerts list --json | jq -se 'any(.[0][]; .host == "lab-02" and .symptom == "silent")'`)
	t.Logf("lab-02 stopped: alert after %s", time.Since(began).Round(time.Second))
}

// TestClock_AheadAtEnrollment: the clocks of receiver and lab host are 40 days ahead when
// the host enrolls, and are then corrected. The host renews its certificate by itself and
// ships.
func TestClock_AheadAtEnrollment(t *testing.T) {
	inLane(t)
	lab.NeedGuests(t)
	const ahead = 40 * 24 * time.Hour
	l := lab.New(t)
	rx := newSkewedReceiver(t, l, ahead)
	g := l.BootGuest("lab-01", ahead)
	g.Run("echo " + rx.Addr + " collector.lab collector >>/etc/hosts")
	g.Run("mkdir -p /etc/cis490 /etc/systemd/system/cis490-cert-fetch.timer.d && cat >/etc/cis490/experiment.toml <<'end'\n" +
		shortExperiment + "end")
	g.Run("cat >/etc/cis490/lab-host.toml <<'end'\n" + busyConfig("lab-01", 5*time.Second, authorityURL) + "end")
	g.Run("printf '[Timer]\\nOnBootSec=1s\\nOnUnitActiveSec=10s\\nRandomizedDelaySec=0\\n' " +
		">/etc/systemd/system/cis490-cert-fetch.timer.d/lab.conf")
	g.Run("cd /root\n" + rx.Run("cis490 token create lab-01"))
	rx.waitTwoEpisodes("lab-01")
	rx.correctClock()
	g.Run(fmt.Sprintf("date -s @%d", time.Now().Unix()))
	began := time.Now()
	g.Eventually(4*time.Minute, "a certificate that is valid", "cis490 cert-fetch --status")
	t.Logf("corrected: renewed after %s", time.Since(began).Round(time.Second))
	rx.waitTwoEpisodes("lab-01")
}
