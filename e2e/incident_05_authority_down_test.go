//go:build e2e

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestIncident05_AuthorityDown: a host installed while the authority was down waited for
// its certificate forever. Here twenty machines join at once with one script of token
// create; the authority is down during their install and as long again. When it returns,
// all ship within five minutes without action on any host, even a host that retried as
// often as it would in hours.
func TestIncident05_AuthorityDown(t *testing.T) {
	inLane(t)
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("lab-%02d", i+1))
	}
	f := newSite(t, "", names...)
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.rx.Run("bash -c 'cis490 token create lab-{01..20} --out /root/join.sh'")
	script := f.rx.Read("/root/join.sh")
	// Autoupdate would start the authority again.
	f.rx.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-bootstrap")
	// The site's configs: short episodes and long rests, so that twenty hosts fit on one
	// machine.
	for _, h := range f.hosts {
		writeBusyConfig(h, 20*time.Second, authorityURL)
		h.Write("/root/join.sh", script, 0o600)
	}
	// This host retries every two seconds, not every five minutes.
	tireless := f.hosts[len(f.hosts)-1]
	tireless.Write("/etc/systemd/system/cis490-cert-fetch.service.d/lab.conf",
		"[Service]\nExecStart=\nExecStart=/usr/local/bin/cis490 cert-fetch --patience 1s\n", 0o644)
	tireless.Write("/etc/systemd/system/cis490-cert-fetch.timer.d/lab.conf",
		"[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1s\n", 0o644)
	began := time.Now()
	var all sync.WaitGroup
	for _, h := range f.hosts {
		all.Go(func() {
			if r := h.Try("sh /root/join.sh"); r.Code != 0 {
				t.Errorf("%s: join: %s", h.Name, r)
			}
		})
	}
	all.Wait()
	installed := time.Since(began)
	done := time.Now()
	tireless.Eventually(time.Minute, "the shipper logs that it waits for credentials",
		"journalctl -u cis490-shipper | grep 'waiting for credentials'")
	// The fix of units.active, as printed.
	f.hosts[0].Run("sudo journalctl -b -p warning -u 'cis490-*' -n 20 --no-pager | grep 'waiting for credentials'")
	detected := time.Since(done)
	time.Sleep(max(installed, time.Minute))
	if rows := f.rx.Try("wc -l < /var/lib/cis490-authority/issued.jsonl").Out; rows != "0\n" {
		t.Fatalf("certificates were issued without the authority: %s", rows)
	}
	tireless.Eventually(3*time.Minute, "three hours of tries", "test $(journalctl -u cis490-cert-fetch | grep -c Starting) -ge 36")
	f.rx.Run("systemctl start cis490-bootstrap")
	back := time.Now()
	first := map[string]time.Duration{}
	for len(first) < len(f.hosts) && time.Since(back) < 5*time.Minute {
		for _, r := range f.index() {
			if _, ok := first[r.Host]; !ok {
				first[r.Host] = r.ReceivedAt.Sub(back).Round(100 * time.Millisecond)
			}
		}
		time.Sleep(2 * time.Second)
	}
	t.Logf("installed within %s, authority back after %s; first episodes after: %v", installed.Round(time.Second),
		back.Sub(began).Round(time.Second), first)
	var last time.Duration
	for _, h := range f.hosts {
		last = max(last, first[h.Name])
		if _, ok := first[h.Name]; !ok {
			t.Errorf("%s has not shipped within 5 minutes\n%s", h.Name, h.Journal("cis490-cert-fetch"))
		}
	}
	if out := f.rx.Run("cis490 token list --json | jq -r '.[].state' | sort | uniq -c"); out != "     20 used" {
		t.Errorf("tokens: %s", out)
	}
	reportTimes(t, detected, last)
}
