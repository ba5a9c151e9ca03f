//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	spoolDir = "/var/lib/cis490/data"
	asRec    = "setpriv --reuid=cis490-rec --regid=cis490-rec --clear-groups "
)

// TestRogueRecorder: the recorder's user attacks the packing and removal of a thousand
// episodes by exchanging names in a loop, and then plants files that an older version
// trusted. The shipper sends and removes no file of the host, and keeps running.
func TestRogueRecorder(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	f.waitAccepted(h, 1, time.Minute)
	h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-orchestrator")
	h.Eventually(time.Minute, "an empty outbox", `test -z "$(ls `+spoolDir+`/outbox; ls `+spoolDir+`/episodes)"`)
	commit := h.Run("cis490 version --json | jq -r .commit")
	guarded := "sha256sum /etc/cis490/certs/*"
	before := h.Run(guarded)
	restarts := h.Run("systemctl show -p NRestarts --value cis490-shipper")

	const tries = 1000
	n := 0
	for range 4 {
		n += h.Rogue(spoolDir+"/episodes", tries/4, commit)
	}
	h.Eventually(3*time.Minute, "all attacked episodes are shipped or quarantined",
		"cd "+spoolDir+`; test -z "$(find episodes -maxdepth 1 -type d -name '01*')" && ! ls -d shipped/*.removing outbox/*.zst 2>/dev/null`)
	taken := h.Run("cd " + spoolDir + "; ls shipped/*.zst | wc -l; ls quarantine | wc -l")
	t.Logf("%d exchanges, %d episodes; shipped, quarantined: %s", n, tries, strings.ReplaceAll(taken, "\n", ", "))
	var shipped, aside int
	if _, err := fmt.Sscan(taken, &shipped, &aside); err != nil || shipped+aside < tries*3/4 || n < tries {
		t.Errorf("%d shipped, %d quarantined, %v: too few for a result", shipped, aside, err)
	}

	// An older version quarantined the recorder's folder: here with a pipe as the reason, and
	// with a link to the key as the tarball.
	pipe, link := "01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2"
	quarantine := spoolDir + "/quarantine"
	for _, id := range []string{pipe, link} {
		h.Run("set -e; cd " + quarantine + "; chmod 755 .; install -d -o cis490-rec -g cis490 -m 2770 " + id + "; cd " + id + "\n" +
			asRec + "sh -c 'echo {} >meta.json; : >done.marker'; chmod 750 ..")
	}
	h.Run("set -e; cd " + quarantine + "; mkfifo " + pipe + "/quarantine_reason.json\n" +
		"ln -s /etc/cis490/certs/lab-host.pem " + link + "/" + link + ".tar.zst; chown -h cis490-rec:cis490 */*.tar.zst */quarantine_reason.json")
	reason := quarantine + "/" + link + "/quarantine_reason.json"
	h.Write(reason, fmt.Sprintf(`{"episode":%q,"kind":"too-large","detail":"because","policy":"older","retry":true}`, link), 0o640)
	h.Run("chown cis490:cis490 " + reason + " && systemctl restart cis490-shipper")
	is := func(id, what string) string {
		return "timeout 10 cis490 episode list --json | jq -e '.[] | select(.episode == \"" + id + "\") | " + what + "'"
	}
	h.Eventually(time.Minute, "the pipe is not trusted", is(pipe, `.reason.detail | test("is not trustworthy")`))
	h.Eventually(time.Minute, "the link is not sent", is(link, `.reason.kind == "unpackable"`))
	if out := h.Try(asRec + "ls " + spoolDir + "/quarantine"); out.Code == 0 {
		t.Errorf("the recorder's user can list quarantine: %s", out.Out)
	}
	for _, command := range []string{"status", "episode list --shipped", "doctor", "episode show " + pipe, "episode verify " + link} {
		if r := h.Try("timeout 60 cis490 " + command); r.Code == 124 {
			t.Errorf("%s hangs", command)
		}
	}

	// An unreadable folder delays no other episode, and doctor reports it.
	closed := "01ARZ3NDEKTSV4RRFFQ69G5FA3"
	h.Run("cd " + spoolDir + "/episodes && " + asRec +
		"sh -c 'umask 007; mkdir " + closed + " && cd " + closed + " && echo {} >meta.json && : >done.marker && chmod 0550 .'")
	stored := f.accepted(h)
	h.Run("systemctl start cis490-orchestrator")
	f.waitAccepted(h, stored+1, 2*time.Minute)
	h.Eventually(time.Minute, "doctor reports the stuck episode",
		"cis490 doctor --json --only episodes.stuck | jq -e '.checks[0].status == \"warn\"'")
	h.Run(asRec + "chmod 0770 " + spoolDir + "/episodes/" + closed)
	h.Eventually(2*time.Minute, "the episode is packed", "! test -e "+spoolDir+"/episodes/"+closed)

	if after := h.Run(guarded); after != before {
		t.Errorf("the credentials were\n%s\nand are\n%s", before, after)
	}
	if now := h.Run("systemctl show -p NRestarts --value cis490-shipper"); now != restarts {
		t.Errorf("the shipper has restarted %s times, before the attack %s", now, restarts)
	}
	h.Run(`set -e; cd ` + spoolDir + `/shipped; jq -r .episode receipts.jsonl | sort -u >/root/receipts
ls | sed -n 's/\.tar\.zst$//p' | sort >/root/tarballs; diff /root/receipts /root/tarballs`)
	bearer := h.Run("cat /etc/cis490/certs/bearer")
	f.rx.Write("/root/bearer", strings.TrimSpace(bearer)+"\nPRIVATE KEY\nstore_id\n", 0o600)
	found := f.rx.Try(`for e in /var/lib/cis490/episodes/lab-01/*.tar.zst; do zstd -dcq $e | grep -aFqf /root/bearer && echo $e; done`).Out
	if found != "" {
		t.Errorf("episodes with content that only the shipper may read: %s", found)
	}
}
