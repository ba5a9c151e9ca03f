//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestArchive: root moves old tarballs to another folder while everything runs. The host
// keeps shipping, reconcile finds all its episodes, and doctor reports no fault.
func TestArchive(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	stopRecording(h)
	addEpisodes(h, 30, 4)
	waitDrained(h, time.Minute)
	all := f.accepted(h)
	f.rx.Run("mkdir /srv/archive && find /var/lib/cis490/episodes -name '*.tar.zst' -exec touch -d '10 days ago' {} +")
	addEpisodes(h, 10, 4)
	waitDrained(h, time.Minute)
	out := f.rx.Run("cis490 archive --before $(date -u -d '2 days ago' +%F) --to /srv/archive")
	if !strings.HasPrefix(out, fmt.Sprintf("moved %d episodes", all)) {
		t.Errorf("archive printed %q, want %d moved episodes", out, all)
	}
	if n := f.rx.Run("ls /var/lib/cis490/episodes/lab-01 | wc -l; ls /srv/archive/lab-01 | wc -l"); n != fmt.Sprintf("10\n%d", all) {
		t.Errorf("files in the store and in the archive:\n%s", n)
	}
	f.checkReconciled(h)
	f.rx.Run("systemctl restart cis490-receiver")
	f.rx.Eventually(30*time.Second, "the receiver is ready", "curl -fsk https://collector.lab:8443/readyz")
	f.checkReconciled(h)
	addEpisodes(h, 5, 4)
	waitDrained(h, time.Minute)
	if r := f.rx.Try("cis490 doctor --deep"); r.Code != 0 {
		t.Errorf("doctor: %s", r)
	}
}
