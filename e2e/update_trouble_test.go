//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// trialWaits succeeds once a trial has lasted three times its length because the receiver
// is unreachable.
const trialWaits = `cat /opt/cis490/autoupdate.json
jq -e '.rolled_back == null and .trial.observed_seconds > 60 and (.trial.waiting | contains("receiver"))' /opt/cis490/autoupdate.json`

// onTrial returns a command that succeeds while a version runs on trial and no version has
// been rolled back.
func onTrial(version string) string {
	return `jq -e '.trial.version == "` + version + `" and .trial.phase == "observing" and .rolled_back == null' /opt/cis490/autoupdate.json &&
/opt/cis490/current/cis490 version | grep -q ` + version
}

// TestUpdate_EverythingElseBroken: an update reaches hosts without certificates, with a
// newer or an invalid config, with an invalid experiment, with the recorder down, and with
// full disks; the gate rejects their commit. Then the receiver is down throughout their
// trials, and no host rolls back.
func TestUpdate_EverythingElseBroken(t *testing.T) {
	inLane(t)
	u := newUpdates(t, []string{"lab-well", "lab-bare", "lab-newer", "lab-broken", "lab-empty", "lab-down"})
	full := u.add("lab-full", lab.WithTmpfs("/opt/cis490", "160M"), lab.WithTmpfs("/var/lib/cis490/data", "64M"))
	u.waitAccepted(full, 1, 60*time.Second)
	stopAutoupdate(u.rx)
	u.Host("lab-bare").Run("rm /etc/cis490/certs/lab-host.pem /etc/cis490/certs/ca.crt /etc/cis490/certs/bearer")
	u.Host("lab-newer").Run(`sed -i '1i new_key = "of a newer version"' /etc/cis490/lab-host.toml`)
	u.Host("lab-broken").Run(`echo '= nonsense' >>/etc/cis490/lab-host.toml`)
	u.Host("lab-empty").Run(": >/etc/cis490/experiment.toml")
	u.Host("lab-down").Run(": >/etc/cis490/experiment.toml; ! systemctl restart cis490-orchestrator")
	// The disk has space for the download and the version only.
	full.Run(`d=/opt/cis490; size=$(stat -Lc %s $d/current/cis490); free=$(($(stat -fc '%a * %S' $d)))
head -c $((free - 2*size - 2000000)) /dev/zero >$d/junk; head -c 1G /dev/zero >/var/lib/cis490/data/junk; df $d /var/lib/cis490/data`)
	u.rx.Run("cis490 release withdraw --seq 1 --block --reason 'wrong labels'")
	u.Host("lab-well").Eventually(30*time.Second, "v1 is gated", "! cis490 doctor --only gate.commit")

	well := u.Host("lab-well")
	stopAutoupdate(well)
	u.publish("v2", lab.BinaryWith(t, "v2", commitOf("v2")))
	u.rx.Run("cis490 release promote --seq 2 --force")
	for _, h := range u.hosts {
		if h != well {
			h.Eventually(2*time.Minute, "v2 is on trial on "+h.Name, "cat /opt/cis490/autoupdate.json; "+onTrial("v2"))
		}
	}
	well.Run("systemctl start cis490-autoupdate.timer")
	well.Eventually(time.Minute, "v2 is fetched", "test -e /opt/cis490/versions/v2/cis490")
	u.rx.CutOff() // before the receiver can accept an episode of v2
	well.Eventually(3*time.Minute, "three times the trial's length without the receiver", trialWaits)
	for _, h := range u.hosts {
		if r := h.Try("jq -e '.rolled_back == null' /opt/cis490/autoupdate.json && /opt/cis490/current/cis490 version | grep v2"); r.Code != 0 {
			t.Errorf("%s, while the receiver was down: %s\n%s", h.Name, r, h.Journal("cis490-autoupdate"))
		}
	}
	u.rx.Reconnect()
	u.waitVersion(well, "v2", 2*time.Minute)
	u.waitVersion(u.Host("lab-newer"), "v2", 2*time.Minute)
	for _, h := range u.hosts {
		if r := h.Try("jq -e '.rolled_back == null' /opt/cis490/autoupdate.json && readlink /opt/cis490/current | " +
			"grep -x versions/v2"); r.Code != 0 {
			t.Errorf("%s, at the end: %s", h.Name, r)
		}
	}
	u.checkConcurrentRuns(well)
}

// checkConcurrentRuns starts the timer's run, a manual run and an install at once. One
// works; the others wait for it, or fail with exit code 75 if it takes long.
func (u *updates) checkConcurrentRuns(h *lab.Host) {
	u.t.Helper()
	stopAutoupdate(h)
	h.Run("sed -i 's/^watch = .*/watch = \"75s\"/' /etc/cis490/lab-host.toml")
	u.publish("v3", lab.BinaryWith(u.t, "v3", commitOf("v3")))
	u.rx.Run("cis490 release promote --seq 3 --force")
	h.Run("systemctl start --no-block cis490-autoupdate.service")
	h.Eventually(30*time.Second, "v3 is on trial", onTrial("v3"))
	out := runTogether(h, "cis490 autoupdate", "/opt/cis490/good/cis490 install lab-host")
	if strings.Count(out, "another install or update is running") != 2 || strings.Count(out, "exit 75") != 2 {
		u.t.Errorf("during a long update:\n%s", out)
	}
	h.Eventually(time.Minute, "the update's run has ended", "! systemctl is-active --quiet cis490-autoupdate.service")
	if r := h.Run("systemctl show -p Result --value cis490-autoupdate.service; readlink /opt/cis490/current"); r != "success\nversions/v3" {
		u.t.Errorf("the timer's run: %s", r)
	}
	out = runTogether(h, "systemctl start cis490-autoupdate.service", "cis490 autoupdate", "cis490 install lab-host")
	if strings.Count(out, "exit 0") != 3 {
		u.t.Errorf("with short runs:\n%s", out)
	}
	h.Run("systemctl start cis490-autoupdate.timer")
	u.waitVersion(h, "v3", time.Minute)
}

// runTogether runs commands at the same time, and returns their output and exit codes.
func runTogether(h *lab.Host, commands ...string) string {
	var script strings.Builder
	for i, c := range commands {
		fmt.Fprintf(&script, "{ %s >/tmp/out.%d 2>&1; echo exit $? >>/tmp/out.%[2]d; } &\n", c, i)
	}
	return h.Run(script.String() + "wait; cat /tmp/out.*; rm /tmp/out.*")
}
