//go:build e2e

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestBatchWhileTheAuthorityIsDown: twenty machines are joined at once from one
// script, which a person made with one command; the authority is down while they
// are installed and for as long again. When it returns, all of them ship within
// five minutes, and nobody has touched a host.
func TestBatchWhileTheAuthorityIsDown(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("lab-%02d", i+1))
	}
	f := site(t, "", names...)
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.rx.Run("bash -c 'cis490 token create lab-{01..20} --out /root/join.sh'")
	script := f.rx.Read("/root/join.sh")
	// Autoupdate would start it again.
	f.rx.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service cis490-bootstrap")
	// What the site wrote before: short episodes and long rests, so that twenty
	// hosts fit on one machine.
	for _, h := range f.hosts {
		busy(h, 20*time.Second, authorityURL)
		h.Write("/root/join.sh", script, 0o600)
	}
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
	time.Sleep(max(installed, time.Minute))
	if rows := f.rx.Try("wc -l < /var/lib/cis490-authority/issued.jsonl").Out; rows != "0\n" {
		t.Fatalf("certificates were issued without the authority: %s", rows)
	}
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
	t.Logf("installed within %s, authority back after %s; first episodes after: %v", installed.Round(time.Second), back.Sub(began).Round(time.Second), first)
	for _, h := range f.hosts {
		if _, ok := first[h.Name]; !ok {
			t.Errorf("%s has not shipped within 5 minutes\n%s", h.Name, h.Journal("cis490-cert-fetch"))
		}
	}
	if out := f.rx.Run("cis490 token list --json | jq -r '.[].state' | sort | uniq -c"); out != "     20 used" {
		t.Errorf("tokens: %s", out)
	}
}
