//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestArchive: root moves old tarballs to another folder while everything runs. The
// host goes on shipping and finds all that it shipped stored; doctor misses nothing.
func TestArchive(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	quiet(h)
	supply(h, 30, 4)
	emptied(h, time.Minute)
	all := f.accepted(h)
	f.rx.Run("mkdir /srv/archive && find /var/lib/cis490/episodes -name '*.tar.zst' -exec touch -d '10 days ago' {} +")
	supply(h, 10, 4)
	emptied(h, time.Minute)
	out := f.rx.Run("cis490 archive --before $(date -u -d '2 days ago' +%F) --to /srv/archive")
	if !strings.HasPrefix(out, fmt.Sprintf("moved %d episodes", all)) {
		t.Errorf("want %d moved: %s", all, out)
	}
	if n := f.rx.Run("ls /var/lib/cis490/episodes/lab-01 | wc -l; ls /srv/archive/lab-01 | wc -l"); n != fmt.Sprintf("10\n%d", all) {
		t.Errorf("files in the store and in the archive:\n%s", n)
	}
	f.equal(h)
	f.rx.Run("systemctl restart cis490-receiver")
	f.rx.Eventually(30*time.Second, "serve is back", "curl -fsk https://collector.lab:8443/readyz")
	f.equal(h)
	supply(h, 5, 4)
	emptied(h, time.Minute)
	if r := f.rx.Try("cis490 doctor --deep"); r.Code != 0 {
		t.Errorf("doctor: %s", r)
	}
}
