//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// configure changes keys of a config file that its example has commented out.
func configure(h *lab.Host, path string, keys map[string]string) {
	script := "cp " + path + " /root/config"
	for key, value := range keys {
		script += fmt.Sprintf("\ngrep -q '^#* *%s = ' /root/config && sed -i 's|^#* *%s = .*|%s = %s|' /root/config", key, key, key, value)
	}
	h.Run("set -e\n" + script + "\ncat /root/config >" + path)
}

// recorded counts the episodes that a host has ever begun.
func recorded(h *lab.Host) string {
	return strings.TrimSpace(h.Try("cat /var/lib/cis490/data/episodes/.counter").Out)
}

// TestRecordingPauses: a host whose outbox is full records nothing more and says
// so; when the receiver is there again it goes on. After the gate's no it records
// nothing at all, also over a restart and without the receiver.
func TestRecordingPauses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 30*time.Second)
	f.rx.CutOff()
	configure(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": `"1s"`, "outbox_limit": `"60 KB"`})
	h.Run("systemctl restart cis490-orchestrator")
	h.Eventually(4*time.Minute, "a full outbox", "journalctl -u cis490-orchestrator | grep -q 'of episodes wait to be shipped, more than the limit of 59 KiB'")
	h.Run("ls /var/lib/cis490/data/outbox/*.tar.zst") // what is packed counts too
	full := recorded(h)
	h.Eventually(2*time.Minute, "the recorder to say it again", "test $(journalctl -u cis490-orchestrator | grep -c 'more than the limit') -ge 3")
	if now := recorded(h); now != full {
		t.Errorf("recording %s was begun while the outbox was full (before: %s)", now, full)
	}
	f.rx.Reconnect()
	h.Eventually(3*time.Minute, "recordings again", "test $(cat /var/lib/cis490/data/episodes/.counter) -gt "+full)

	h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator") // that starts what is stopped
	commit := f.rx.Run("cis490 version --json | jq -r .commit")
	configure(f.rx, "/etc/cis490/receiver.toml", map[string]string{"blocked_commits": fmt.Sprintf("[%q]", commit)})
	f.rx.Eventually(2*time.Minute, "the gate's no", "curl -fsk https://collector.lab:8443/v1/gate/"+commit+" | jq -se '.[0].accepted == false'")
	// As if the last yes were older than it is believed for.
	h.Run("rm -f /var/lib/cis490/data/episodes/.gate")
	before := recorded(h)
	refused := `test $(journalctl -u cis490-orchestrator -b --since "$(cat /root/since)" | grep -c 'the gate rejects commit') -ge 2`
	h.Run("date '+%F %T' >/root/since; sleep 1; systemctl start cis490-orchestrator")
	h.Eventually(2*time.Minute, "the recorder to tell of the gate's no", refused)
	f.rx.CutOff()
	h.Run("date '+%F %T' >/root/since; sleep 1; systemctl restart cis490-orchestrator")
	h.Eventually(3*time.Minute, "the same without the receiver", refused)
	if now := recorded(h); now != before {
		t.Errorf("%s recordings were begun before the gate's no, %s after it", before, now)
	}
	if state := h.Run("systemctl is-active cis490-orchestrator"); state != "active" {
		t.Errorf("the recorder is %s: it should wait for a yes", state)
	}
	f.rx.Reconnect()
	configure(f.rx, "/etc/cis490/receiver.toml", map[string]string{"blocked_commits": "[]"})
	h.Eventually(3*time.Minute, "recordings after the gate's yes", "test $(cat /var/lib/cis490/data/episodes/.counter) -gt "+before)
}

// thief is a workload that tries what a workload must not be able to, and
// reports as "reached" what it could.
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
for f in $data/episodes/.counter $data/episodes/.gate $data/episodes/.victim/meta.json $data/shipped/receipts.jsonl /etc/cis490/lab-host.toml /opt/cis490/current/cis490; do
	reach write $f; reach rm -f $f; reach mv $f $f.x
done
for d in $data $data/episodes $data/episodes/.victim $data/outbox $data/quarantine /etc/cis490 /opt/cis490 /tmp /var/tmp /run; do reach touch $d/mine; done
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

// TestWorkloadIsConfined: what runs under the recorder's unit reads no credential,
// writes no other episode and no file of the host's, and signals nobody.
func TestWorkloadIsConfined(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, 30*time.Second)
	h.Write("/etc/cis490/experiment.toml", thief, 0o644)
	configure(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": `"1s"`, "experiment": `"/etc/cis490/experiment.toml"`})
	// An episode of another's, which the recorder's own user may write.
	h.Run("install -d -o cis490-rec -g cis490 -m 2770 /var/lib/cis490/data/episodes/.victim && echo '{}' >/var/lib/cis490/data/episodes/.victim/meta.json && chown cis490-rec:cis490 /var/lib/cis490/data/episodes/.victim/meta.json && chmod 660 /var/lib/cis490/data/episodes/.victim/meta.json")
	h.Run("systemctl restart cis490-orchestrator")
	meta := `zstd -dcq $e | tar -xO --wildcards '*/meta.json'`
	tarball := f.rx.Eventually(90*time.Second, "the thief's episode", "for e in /var/lib/cis490/episodes/lab-01/*.tar.zst; do test -e $e && "+meta+" | grep -q '\"thief\"' && echo $e && exit; done; false")
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
		t.Errorf("another's episode is now %q", got)
	}
}
