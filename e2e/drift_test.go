//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestDriftIsMended: the next autoupdate repairs changes that were made by hand.
func TestDriftIsMended(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 15*time.Second)

	h.Run("systemctl start cis490-autoupdate.service") // in place of its timer
	if result := h.Run("systemctl show -p Result,ExecMainStatus cis490-autoupdate.service"); result != "Result=success\nExecMainStatus=0" {
		t.Errorf("a run without changes: %s\n%s", result, h.Journal("cis490-autoupdate"))
	}
	if log := h.Journal("cis490-autoupdate"); strings.Contains(log, "repaired") {
		t.Errorf("autoupdate changed a fresh host:\n%s", log)
	}

	h.Run("sed -i 's/^Restart=.*/Restart=no/' /etc/systemd/system/cis490-shipper.service && systemctl daemon-reload")
	h.Run("systemctl disable --now cis490-cert-fetch.timer && systemctl stop cis490-shipper && chmod 0700 /var/lib/cis490/data/episodes")
	h.Run("systemctl start cis490-autoupdate.service")
	const repaired = "repaired services: started cis490-shipper.service, which was not running"
	if log := h.Journal("cis490-autoupdate"); !strings.Contains(log, repaired) {
		t.Errorf("autoupdate does not say that it started a service:\n%s", log)
	}
	h.Run("systemctl is-active cis490-shipper cis490-cert-fetch.timer && systemctl is-enabled cis490-cert-fetch.timer")
	if restart := h.Run("systemctl show -p Restart --value cis490-shipper"); restart != "on-failure" {
		t.Errorf("the unit was not repaired: Restart=%s", restart)
	}
	if r := h.Try("cis490 install lab-host --check"); r.Code != 0 {
		t.Errorf("drift after the repair: %s", r)
	}

	// Everything that an install does as root must work in the unit's sandbox: users, setgid
	// folders, owners, the link to the command, units.
	h.Run("systemctl stop cis490-orchestrator && userdel cis490-rec && ! getent group cis490-rec")
	h.Run("rm /usr/local/bin/cis490 /etc/systemd/system/cis490-shipper.service && chown root:root /var/lib/cis490/data/*/ && " +
		"chmod 0700 /var/lib/cis490/data/*/")
	h.Run("systemctl start cis490-autoupdate.service")
	h.Run("systemctl is-active cis490-shipper cis490-orchestrator && test -x /usr/local/bin/cis490")
	if got := h.Run("stat -c '%U:%G %a' /var/lib/cis490/data/episodes"); got != "cis490-rec:cis490 2770" {
		t.Errorf("owner and mode of the folder of episodes: %s", got)
	}
	if r := h.Try("cis490 install lab-host --check"); r.Code != 0 {
		t.Errorf("drift after the second repair: %s", r)
	}
	f.waitAccepted(h, f.accepted(h)+1, 60*time.Second)
}
