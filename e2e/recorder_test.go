//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// editConfig sets keys of a config file to TOML values. Each key must be in the file, set
// or commented out.
func editConfig(h *lab.Host, path string, keys map[string]string) {
	script := "cp " + path + " /root/config"
	for key, value := range keys {
		script += fmt.Sprintf("\ngrep -q '^#* *%s = ' /root/config && sed -i 's|^#* *%s = .*|%s = %s|' /root/config", key, key, key, value)
	}
	h.Run("set -e\n" + script + "\ncat /root/config >" + path)
}

// recordingCount returns how many episodes a host has ever begun.
func recordingCount(h *lab.Host) string {
	return strings.TrimSpace(h.Try("cat /var/lib/cis490/data/episodes/.counter").Out)
}

// TestRecordingPauses: a host whose outbox is full stops recording and logs the reason;
// when the receiver is back, it resumes. When the gate rejects its commit, it records
// nothing, also after a restart and without the receiver.
func TestRecordingPauses(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 30*time.Second)
	f.rx.CutOff()
	editConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": `"1s"`, "outbox_limit": `"60 KB"`})
	h.Run("systemctl restart cis490-orchestrator")
	h.Eventually(4*time.Minute, "a full outbox", "journalctl -u cis490-orchestrator | "+
		"grep -q 'of episodes wait to be shipped, more than the limit of 59 KiB'")
	h.Run("ls /var/lib/cis490/data/outbox/*.tar.zst") // packed episodes count too
	full := recordingCount(h)
	h.Eventually(2*time.Minute, "the recorder logs it again",
		"test $(journalctl -u cis490-orchestrator | grep -c 'more than the limit') -ge 3")
	if now := recordingCount(h); now != full {
		t.Errorf("recording %s began while the outbox was full (before: %s)", now, full)
	}
	f.rx.Reconnect()
	h.Eventually(3*time.Minute, "recordings again", "test $(cat /var/lib/cis490/data/episodes/.counter) -gt "+full)

	h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator") // autoupdate would start the recorder again
	commit := f.rx.Run("cis490 version --json | jq -r .commit")
	editConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"blocked_commits": fmt.Sprintf("[%q]", commit)})
	f.rx.Eventually(2*time.Minute, "the gate rejects the commit",
		"curl -fsk https://collector.lab:8443/v1/gate/"+commit+" | jq -se '.[0].accepted == false'")
	// As if the gate's last answer had expired.
	h.Run("rm -f /var/lib/cis490/data/episodes/.gate")
	before := recordingCount(h)
	refused := `test $(journalctl -u cis490-orchestrator -b --since "$(cat /root/since)" | grep -c 'the gate rejects commit') -ge 2`
	h.Run("date '+%F %T' >/root/since; sleep 1; systemctl start cis490-orchestrator")
	h.Eventually(2*time.Minute, "the recorder logs that the gate rejects the commit", refused)
	f.rx.CutOff()
	h.Run("date '+%F %T' >/root/since; sleep 1; systemctl restart cis490-orchestrator")
	h.Eventually(3*time.Minute, "the same without the receiver", refused)
	if now := recordingCount(h); now != before {
		t.Errorf("%s recordings before the gate rejected the commit, %s after", before, now)
	}
	if state := h.Run("systemctl is-active cis490-orchestrator"); state != "active" {
		t.Errorf("the recorder is %s, want active: it waits for the gate", state)
	}
	f.rx.Reconnect()
	editConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"blocked_commits": "[]"})
	h.Eventually(3*time.Minute, "recordings after the gate accepts the commit",
		"test $(cat /var/lib/cis490/data/episodes/.counter) -gt "+before)
}

// thief is a workload that tries forbidden actions, and reports each success as "reached".
const thief = `
schema = 1
name = "thief"
[[profile]]
name = "thief"
weight = 1
command = ["/bin/bash", "-c", '''
reach() { if "$@" >/dev/null 2>&1; then echo "event reached $*" >&3; fi; }
write() { echo spoilt >>"$1"; }
data=/var/lib/cis490/data
for f in /etc/cis490/certs/lab-host.pem /etc/cis490/certs/bearer /etc/shadow $data/shipped/receipts.jsonl; do reach cat $f; done
for f in $data/episodes/.counter $data/episodes/.gate $data/episodes/.victim/meta.json $data/shipped/receipts.jsonl \
	/etc/cis490/lab-host.toml /opt/cis490/current/cis490; do
	reach write $f; reach rm -f $f; reach mv $f $f.x
done
for d in $data $data/episodes $data/episodes/.victim $data/outbox $data/quarantine /etc/cis490 /opt/cis490 /tmp /var/tmp /run
do reach touch $d/mine; done
reach rm -rf $data/episodes/.victim
for p in $(grep -l cis490 /proc/[0-9]*/comm | cut -d/ -f3); do reach kill -0 $p; reach cat /proc/$p/environ; reach cat /proc/$p/fd/0; done
reach sudo -n true
reach unshare -r true
touch own || exit 9
echo "event tried" >&3
''']
[[profile.phase]]
name = "clean"
event = "start"
budget = "30s"
[[profile.phase]]
name = "done"
event = "tried"
budget = "30s"
`

// TestWorkloadIsConfined: a workload of the recorder cannot read credentials, write other
// episodes or files of the host, or signal other processes.
func TestWorkloadIsConfined(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 30*time.Second)
	h.Write("/etc/cis490/experiment.toml", thief, 0o644)
	editConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": `"1s"`})
	// Another episode, which the recorder's user may write.
	h.Run("install -d -o cis490-rec -g cis490 -m 2770 /var/lib/cis490/data/episodes/.victim && " +
		"cd /var/lib/cis490/data/episodes/.victim && echo '{}' >meta.json && chown cis490-rec:cis490 meta.json && chmod 660 meta.json")
	h.Run("systemctl restart cis490-orchestrator")
	meta := `zstd -dcq $e | tar -xO --wildcards '*/meta.json'`
	tarball := f.rx.Eventually(90*time.Second, "the thief's episode",
		"for e in /var/lib/cis490/episodes/lab-01/*.tar.zst; do test -e $e && "+meta+" | grep -q '\"thief\"' && echo $e && exit; done; false")
	h.Run("systemctl stop cis490-orchestrator")
	f.rx.Run("mkdir -p /root/e && zstd -dcq " + tarball + " | tar -x --strip-components=1 -C /root/e")
	if verdict := f.rx.Run(`jq -r '.verdict, (.reason // "")' /root/e/meta.json`); strings.TrimSpace(verdict) != "accepted" {
		t.Errorf("the thief's episode: %s", verdict)
	}
	if notes := f.rx.Run(`jq -r '.notes // [] | .[]' /root/e/meta.json`); strings.Contains(notes, "could reach beyond") {
		t.Skip("this kernel cannot confine: " + notes)
	}
	if reached := f.rx.Run(`jq -r 'select(.event == "reached") | .detail' /root/e/events.jsonl`); reached != "" {
		t.Errorf("the workload could:\n%s", reached)
	}
	if got := h.Run("cat /var/lib/cis490/data/episodes/.victim/meta.json"); got != "{}" {
		t.Errorf("the other episode's meta.json is now %q", got)
	}
}
