//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cis490/internal/ident"
)

// yesterday gives the receiver a day behind it: episodes of each host for 23 hours,
// more by day than by night.
func (f *fleet) yesterday() {
	f.t.Helper()
	const content = "a tarball of yesterday\n"
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	var rows, names strings.Builder
	for at, end := time.Now().Add(-23*time.Hour), time.Now().Add(-time.Hour); at.Before(end); at = at.Add(time.Duration(6+at.Hour()%12) * time.Minute) {
		h := f.hosts[at.Minute()%len(f.hosts)].Name
		id, err := ident.NewEpisodeID(at, rand.Reader)
		if err != nil {
			f.t.Fatal(err)
		}
		fmt.Fprintf(&rows, `{"v":1,"received_at":%q,"host":%q,"episode":%q,"sha256":%q,"size":%d,"commit":%q}`+"\n",
			at.UTC().Format(time.RFC3339Nano), h, id, digest, len(content), strings.Repeat("c", 40))
		fmt.Fprintf(&names, "%s/%s\n", h, id)
	}
	f.rx.Run("systemctl stop cis490-receiver")
	f.rx.Write("/var/lib/cis490/index.jsonl", rows.String(), 0o640)
	f.rx.Write("/tmp/tarball", content, 0o640)
	f.rx.RunIn(names.String(), `cd /var/lib/cis490 && while read name; do install -D -m 640 /tmp/tarball episodes/$name.tar.zst; done &&
		chown -R cis490:cis490 episodes index.jsonl && systemctl start cis490-receiver`)
}

// TestDashboard follows a maintainer through a real browser: sign in, see a host
// fall sick without a reload, open it, copy the fix, silence the alert, see it
// resolve. The browser has nothing to complain of, and the pages can be read and
// operated by everyone.
func TestDashboard(t *testing.T) {
	t.Parallel()
	f := site(t, "[fleet]\nsilent_after = \"45s\"\n", "lab-01", "lab-02", "lab-03")
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.yesterday()
	for _, h := range f.hosts {
		busy(h, 2*time.Second, authorityURL)
		f.join(h)
		unmended(h)
	}
	sick := f.hosts[1]
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, time.Minute)
		h.Try("systemctl start cis490-doctor-check") // its verdict is not what this is about
	}

	every(f.rx, "cis490-fleet-health", 5*time.Second)

	c := newChromium(t, f.Lab, "collector.lab", f.rx.Addr)
	c.see(looks()[0])
	c.do(chromedp.Navigate("https://collector.lab:8443/"), chromedp.WaitVisible(chromedp.CSS("#token")))
	c.named()
	c.shoot("sign-in")
	if got := strings.Join(c.tabs(3), ", "); got != "Skip to content, token, Sign in" {
		t.Errorf("focus order of the sign-in: %s", got)
	}
	c.do(chromedp.SendKeys(chromedp.CSS("#token"), "wrong"+kb.Enter), chromedp.WaitVisible(chromedp.CSS(`[role=alert]`)))
	c.do(chromedp.SendKeys(chromedp.CSS("#token"), f.rx.Run("cat /etc/cis490/operator")+kb.Enter), chromedp.WaitVisible(chromedp.CSS("#hosts")))
	// A refused sign-in is an answer of 401, which the console tells.
	for _, text := range c.complaints() {
		if !strings.Contains(text, "401") {
			t.Errorf("console: %s", text)
		}
	}
	c.mu.Lock()
	c.bad = nil
	c.mu.Unlock()
	c.until(time.Minute, "all is well", `document.querySelector("#verdict .healthy")`)

	// From here on the page is not loaded again.
	c.run(`window.cis490same = true`)
	sick.Run("systemctl stop cis490-orchestrator")
	c.until(3*time.Minute, "the sick host is first", `document.querySelector("#hosts tbody tr .badge.sick") && document.querySelector("#hosts tbody th a").textContent === "lab-02"`)
	if c.text(`String(window.cis490same)`) != "true" {
		t.Error("the page was loaded anew")
	}
	c.named()
	c.shoot("fleet")
	t.Logf("focus order of the fleet: %v", c.tabs(14))

	c.do(chromedp.Click(chromedp.CSS(`#hosts tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
	c.named()
	c.shoot("host")
	t.Logf("focus order of the host: %v", c.tabs(12))
	c.do(chromedp.Click(chromedp.CSS(`.alert .copy`)))
	fix := c.text(`document.querySelector(".alert .fix code").textContent`)
	c.until(5*time.Second, "the button says so", `document.querySelector(".alert .copy").textContent === "Copied"`)
	if got := c.text(`navigator.clipboard.readText()`); got != fix || !strings.Contains(fix, "cis490") {
		t.Errorf("copied %q, the fix is %q", got, fix)
	}

	f.silenceWithoutScript(c, sick.Name)
	if list := f.rx.Run("cis490 alerts list --json"); !strings.Contains(list, `"silenced": true`) {
		t.Errorf("alerts list does not know of the silence:\n%s", list)
	}
	c.run(`window.cis490same = true`)
	had := f.accepted(sick)
	sick.Run("systemctl start cis490-orchestrator")
	f.waitAccepted(sick, had+1, time.Minute)
	c.until(time.Minute, "it is healthy again", `document.querySelector("#now .badge.healthy") && !document.querySelector(".alert")`)
	if c.text(`String(window.cis490same)`) != "true" {
		t.Error("the page was loaded anew")
	}
	c.until(5*time.Second, "its history has the end", `document.querySelector("#history").textContent.includes("resolved")`)
	c.do(chromedp.Navigate("https://collector.lab:8443/episodes?host=lab-02"), chromedp.WaitVisible(chromedp.CSS("table")))
	c.named()
	c.shoot("episodes")
	c.do(chromedp.Click(chromedp.CSS(`.rows tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`.plot img`)))
	c.until(10*time.Second, "the plot is drawn", `document.querySelector(".plot img").naturalHeight > 100`)
	c.named()
	c.shoot("episode")
	c.do(chromedp.Navigate("https://collector.lab:8443/releases"), chromedp.WaitVisible(chromedp.CSS("#releases")))
	c.named()
	c.shoot("releases")
	if bad := c.complaints(); len(bad) > 0 {
		t.Errorf("console:\n%s", strings.Join(bad, "\n"))
	}
	if log := f.rx.Journal("cis490-receiver"); !strings.Contains(log, "alert silenced") || !strings.Contains(log, "sign-in refused") {
		t.Error("the receiver's log has not all changes")
	}
}

// silenceWithoutScript: where scripts do not run, the fleet is shown and searched,
// the host is opened and its alert is silenced all the same.
func (f *fleet) silenceWithoutScript(c *chromium, sick string) {
	f.t.Helper()
	off := func(is bool) {
		call(c, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: is})
	}
	off(true)
	c.do(chromedp.Navigate("https://collector.lab:8443/"), chromedp.WaitVisible(chromedp.CSS("#hosts")))
	c.do(chromedp.SendKeys(chromedp.CSS(`input[type=search]`), sick+kb.Enter))
	c.until(10*time.Second, "one host is found", `document.querySelectorAll("#hosts tbody tr").length === 1`)
	c.do(chromedp.Click(chromedp.CSS(`#hosts tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
	c.do(chromedp.Click(chromedp.CSS(`.silence button`)), chromedp.WaitVisible(chromedp.CSS(`.alert.silenced`)))
	off(false)
	c.do(chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
}
