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

// seedYesterday gives the receiver episodes of the last 23 hours, more by day than by
// night.
func (f *fleet) seedYesterday() {
	f.t.Helper()
	const content = "a tarball of yesterday\n"
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	var rows, names strings.Builder
	pause := func(at time.Time) time.Duration { return time.Duration(6+at.Hour()%12) * time.Minute }
	for at, end := time.Now().Add(-23*time.Hour), time.Now().Add(-time.Hour); at.Before(end); at = at.Add(pause(at)) {
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

// TestDashboard uses the dashboard in a real browser: sign in, see a host become sick
// without a reload, open it, copy the fix, silence the alert, see it resolved. The console
// has no errors, and the pages are accessible.
func TestDashboard(t *testing.T) {
	inLane(t)
	f := newSite(t, "[fleet]\nsilent_after = \"45s\"\n", "lab-01", "lab-02", "lab-03")
	f.rx.Run("cd /root && ./cis490 install receiver")
	f.seedYesterday()
	for _, h := range f.hosts {
		writeBusyConfig(h, 2*time.Second, authorityURL)
		f.join(h)
		delayAutoupdate(h)
	}
	sick := f.hosts[1]
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, time.Minute)
		h.Try("systemctl start cis490-doctor-check") // the result is not under test
	}

	setTimer(f.rx, "cis490-fleet-health", 5*time.Second)

	c := newChromium(t, f.Lab, "collector.lab", f.rx.Addr)
	c.setViewport(viewports()[0])
	c.do(chromedp.Navigate("https://collector.lab:8443/"), chromedp.WaitVisible(chromedp.CSS("#token")))
	c.checkAccessibleNames()
	c.screenshot("sign-in")
	if got := strings.Join(c.tabThrough(3), ", "); got != "Skip to content, token, Sign in" {
		t.Errorf("focus order of the sign-in: %s", got)
	}
	c.do(chromedp.SendKeys(chromedp.CSS("#token"), "wrong"+kb.Enter), chromedp.WaitVisible(chromedp.CSS(`[role=alert]`)))
	c.do(chromedp.SendKeys(chromedp.CSS("#token"), f.rx.Run("cat /etc/cis490/operator")+kb.Enter),
		chromedp.WaitVisible(chromedp.CSS("#hosts")))
	// The console reports the 401 of the rejected sign-in.
	for _, text := range c.consoleErrors() {
		if !strings.Contains(text, "401") {
			t.Errorf("console: %s", text)
		}
	}
	c.mu.Lock()
	c.errors = nil
	c.mu.Unlock()
	c.waitFor(time.Minute, "the fleet is healthy", `document.querySelector("#verdict .healthy")`)

	// From here on the page must not reload.
	c.run(`window.cis490same = true`)
	sick.Run("systemctl stop cis490-orchestrator")
	c.waitFor(3*time.Minute, "the sick host is first", `document.querySelector("#hosts tbody tr .badge.sick") && `+
		`document.querySelector("#hosts tbody th a").textContent === "lab-02"`)
	if c.eval(`String(window.cis490same)`) != "true" {
		t.Error("the page was reloaded")
	}
	c.checkAccessibleNames()
	c.screenshot("fleet")
	t.Logf("focus order of the fleet: %v", c.tabThrough(14))

	c.do(chromedp.Click(chromedp.CSS(`#hosts tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
	c.checkAccessibleNames()
	c.screenshot("host")
	t.Logf("focus order of the host: %v", c.tabThrough(12))
	c.do(chromedp.Click(chromedp.CSS(`.alert .copy`)))
	fix := c.eval(`document.querySelector(".alert .fix code").textContent`)
	c.waitFor(5*time.Second, "the button shows Copied", `document.querySelector(".alert .copy").textContent === "Copied"`)
	if got := c.eval(`navigator.clipboard.readText()`); got != fix || !strings.Contains(fix, "cis490") {
		t.Errorf("copied %q, the fix is %q", got, fix)
	}

	f.silenceWithoutScript(c, sick.Name)
	if list := f.rx.Run("cis490 alerts list --json"); !strings.Contains(list, `"silenced": true`) {
		t.Errorf("alerts list does not show the silence:\n%s", list)
	}
	c.run(`window.cis490same = true`)
	had := f.accepted(sick)
	sick.Run("systemctl start cis490-orchestrator")
	f.waitAccepted(sick, had+1, time.Minute)
	c.waitFor(time.Minute, "the host is healthy again", `document.querySelector("#now .badge.healthy") && !document.querySelector(".alert")`)
	if c.eval(`String(window.cis490same)`) != "true" {
		t.Error("the page was reloaded")
	}
	c.waitFor(5*time.Second, "the history shows the end", `document.querySelector("#history").textContent.includes("resolved")`)
	c.do(chromedp.Navigate("https://collector.lab:8443/episodes?host=lab-02"), chromedp.WaitVisible(chromedp.CSS("table")))
	c.checkAccessibleNames()
	c.screenshot("episodes")
	c.do(chromedp.Click(chromedp.CSS(`.rows tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`.plot img`)))
	c.waitFor(10*time.Second, "the plot is drawn", `document.querySelector(".plot img").naturalHeight > 100`)
	c.checkAccessibleNames()
	c.screenshot("episode")
	c.do(chromedp.Navigate("https://collector.lab:8443/releases"), chromedp.WaitVisible(chromedp.CSS("#releases")))
	c.checkAccessibleNames()
	c.screenshot("releases")
	if bad := c.consoleErrors(); len(bad) > 0 {
		t.Errorf("console:\n%s", strings.Join(bad, "\n"))
	}
	if log := f.rx.Journal("cis490-receiver"); !strings.Contains(log, "alert silenced") || !strings.Contains(log, "sign-in refused") {
		t.Error("the receiver's log lacks the silence or the rejected sign-in")
	}
}

// silenceWithoutScript searches the fleet, opens the host and silences its alert without
// JavaScript.
func (f *fleet) silenceWithoutScript(c *chromium, sick string) {
	f.t.Helper()
	off := func(is bool) {
		call(c, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: is})
	}
	off(true)
	c.do(chromedp.Navigate("https://collector.lab:8443/"), chromedp.WaitVisible(chromedp.CSS("#hosts")))
	c.do(chromedp.SendKeys(chromedp.CSS(`input[type=search]`), sick+kb.Enter))
	c.waitFor(10*time.Second, "one host is found", `document.querySelectorAll("#hosts tbody tr").length === 1`)
	c.do(chromedp.Click(chromedp.CSS(`#hosts tbody th a`)), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
	c.do(chromedp.Click(chromedp.CSS(`.silence button`)), chromedp.WaitVisible(chromedp.CSS(`.alert.silenced`)))
	off(false)
	c.do(chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS(`#snapshot`)))
}
