//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"cis490/e2e/lab"
)

// A race is a command of root in a folder of user cis490, who meanwhile exchanges a name
// in that folder with a link to a folder of root, in a loop.
type race struct {
	name, command string
	tries         int
	folder, link  string // the exchanged names, relative to the data folder
	prepare       string // run as user cis490 before each try
}

// The links lead to these folders of root. systemd runs files in generators as root at the
// next reload; only root may read secrets.
const (
	generators = "/etc/systemd/system-generators"
	secrets    = "/root/secrets"
	bounty     = "only root may read this"
)

// TestSwappedFolders: by exchanging a folder with a link, user cis490 cannot make a command
// of root write, chown or copy anything outside the user's own folders.
func TestSwappedFolders(t *testing.T) {
	inLane(t)
	f := &fleet{Lab: lab.New(t), t: t}
	rx := f.Boot("collector")
	f.rx = rx
	rx.Push(lab.Binary(t), "/root/rel/cis490-linux-amd64")
	rx.Run("cp /root/rel/cis490-linux-amd64 /root/cis490 && cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	rx.Run("systemctl stop cis490-autoupdate.timer cis490-fleet-health.timer") // the test starts them
	rx.Write("/etc/systemd/system/cis490-autoupdate.service.d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n", 0o644)
	rx.Run("systemctl daemon-reload")
	rx.Run(fmt.Sprintf("cis490 release sign --keys /root/keys --seq 1 --version v1 --commit %040x /root/rel", 1))
	rx.Run("cis490 release publish /root/rel")
	const episode = "01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst"
	rx.Run("mkdir -p /etc/trap/blobs /srv/archive " + generators + " " + secrets + " && chmod 0700 " + secrets)
	rx.Write(secrets+"/"+episode, bounty, 0o600)
	rx.Write(secrets+"/"+strings.Repeat("a", 64), bounty, 0o600)
	as := "setpriv --reuid=cis490 --regid=$(id -g cis490) --init-groups "
	rx.Run("cd /var/lib/cis490 && " + as + "ln -s /etc/trap trap && " + as + "ln -s " + generators + " releases/generators && " +
		as + "ln -s " + secrets + " releases/secrets && " + as + "mkdir -p episodes/lab-01 && " + as + "ln -s " + secrets + " episodes/secrets")
	watched := "stat -c '%n %U:%G %a %Y' $(find /etc/trap " + generators + " " + secrets + " /etc/cron.d)"
	before := rx.Run(watched)

	// stolen succeeds if a backup or the archive has content that only root may read.
	const stolen = "{ tar -xzOf /root/backup.tar.gz; cat /srv/archive/*/*; } 2>/dev/null | grep -a '" + bounty + "'"
	const noBlobs = "rm -f releases/blobs/*; true"
	for _, r := range []race{
		{"install", "cis490 install receiver", 250, "releases/blobs", "releases/generators", noBlobs},
		{"install, parent", "cis490 install receiver", 150, "releases", "trap", noBlobs},
		{"autoupdate", "systemctl start cis490-autoupdate.service", 150, "releases/blobs", "releases/generators", noBlobs},
		{"publish", "cis490 release publish /root/rel", 100, "releases/blobs", "releases/generators", "rm -f releases/orders.jsonl; " + noBlobs},
		{"backup", "cis490 backup --to /root/backup.tar.gz", 150, "releases/blobs", "releases/secrets", noBlobs},
		{
			"archive", "cis490 archive --before 2100-01-01 --to /srv/archive", 100, "episodes/lab-01", "episodes/secrets",
			"touch -d '10 days ago' episodes/lab-01/" + episode,
		},
		{"restore", "cis490 restore --from /root/whole.tar.gz", 150, "releases/blobs", "releases/generators", noBlobs},
	} {
		if r.name == "restore" {
			rx.Run("cis490 install receiver && cis490 backup --to /root/whole.tar.gz && systemctl stop cis490-receiver cis490-bootstrap")
		}
		stop := rx.Swap("cis490", "/var/lib/cis490/"+r.folder, "/var/lib/cis490/"+r.link)
		rx.Write("/root/raced", "rm -rf /srv/archive/*\n"+r.command+"\ncode=$?\n"+stolen+" && exit 99\nexit $code\n", 0o644)
		rx.Write("/run/prepare", "cd /var/lib/cis490\n"+r.prepare+"\n", 0o644)
		ok := 0
		for left := r.tries; left > 0; left -= 50 {
			out := rx.Try(fmt.Sprintf(`for i in $(seq %d); do %ssh /run/prepare 2>/dev/null; timeout 60 sh /root/raced >/root/raced.log 2>&1
case $? in 0) printf x;; 124|99) cat /root/raced.log >&2; exit 1;; esac; done`, min(left, 50), as))
			if ok += len(out.Out); out.Code != 0 {
				t.Errorf("%s hangs, or copied content that only root may read: %s", r.name, out)
				break
			}
		}
		n := stop()
		t.Logf("%s: %d tries, %d of them succeeded, %d exchanges", r.name, r.tries, ok, n)
		if n < r.tries {
			t.Errorf("%s: %d exchanges, want at least one for each try", r.name, n)
		}
		if after := rx.Run(watched); after != before {
			t.Errorf("%s changed folders of root:\nbefore:\n%s\nafter:\n%s", r.name, before, after)
			before = after
		}
	}
	rx.Run("systemctl start cis490-bootstrap cis490-receiver && cis490 install receiver && cis490 install receiver --check")
}
