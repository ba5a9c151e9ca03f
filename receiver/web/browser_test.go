package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// axeVersion is the version of axe-core, which npm fetches once.
const axeVersion = "4.14.1"

// browser is a Chromium with one page.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	errors  []string                       // of the console
	fetches map[network.RequestID]struct{} // refreshes that are on their way
	sizes   []float64                      // bytes of each refresh on the wire

	refreshed chan struct{} // has a value after a refresh
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil || testing.Short() {
		t.Skip("needs Chromium (apt-get install chromium), and is left out with -short")
	}
	b := &browser{t: t, fetches: map[network.RequestID]struct{}{}, refreshed: make(chan struct{}, 1)}
	var cancel context.CancelFunc
	b.ctx, cancel = chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(
		chromedp.ExecPath("chromium"), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.IgnoreCertErrors, chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("lang", "en-US"), chromedp.UserDataDir(t.TempDir()),
	))
	t.Cleanup(cancel)
	must(t, chromedp.Listen(b.ctx, b.listen))
	call(b, log.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	call(b, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	return b
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	r, err := chromedp.Run(b.ctx, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
	must(b.t, err)
	return r
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.errors = append(b.errors, fmt.Sprint(e.Type, e.Args))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.errors = append(b.errors, fmt.Sprint(e.Entry.Source, ": ", e.Entry.Text, " ", e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeFetch {
			b.fetches[e.RequestID] = struct{}{}
		}
	case *network.EventLoadingFinished:
		if _, ok := b.fetches[e.RequestID]; ok {
			b.sizes = append(b.sizes, e.EncodedDataLength)
			select {
			case b.refreshed <- struct{}{}:
			default:
			}
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("chromium: %v\n%s", err, strings.Join(b.errors, "\n"))
	}
}

// text returns the result of a script.
func (b *browser) text(script string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("(async () => String(await ("+script+")))()", chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v\n%s", err, script)
	}
	return s
}

func (b *browser) number(script string) (n float64) {
	b.t.Helper()
	_, err := fmt.Sscan(b.text(script), &n)
	must(b.t, err)
	return n
}

func (b *browser) see(width, height int64, dark bool) {
	b.t.Helper()
	call(
		b,
		emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600},
	)
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	call(
		b,
		emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}},
	)
}

// busy returns the seconds of CPU time that the page's main thread has used.
func (b *browser) busy() float64 {
	b.t.Helper()
	for _, m := range call(b, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "TaskDuration" {
			return m.Value
		}
	}
	b.t.Fatal("chromium has no TaskDuration")
	return 0
}

// sickFleet is 2,000 hosts, of which 200 are sick for 4 reasons; turn moves some of them
// from one reason to another.
func sickFleet(t *testing.T) (r *harness, alerts func(turn int) []fleet.Alert) {
	t.Helper()
	r = newHarness(t)
	began := time.Now()
	base := r.now
	r.clock = func() time.Time { return base.Add(time.Since(began)) }
	for i := range 2000 {
		name := ident.Host(fmt.Sprintf("lab-%04d", i))
		r.hosts = append(r.hosts, roster.Host{Name: name, State: roster.Active, CertExpires: base.Add(time.Duration(300+i) * time.Hour)})
		r.book.Hosts[name] = &contacts.Contact{
			LastContact: base.Add(time.Hour), LastPing: base.Add(time.Hour), LastAccepted: base.Add(-time.Duration(i) * time.Second),
			Version: fmt.Sprintf("v1.%d.0", i%3), From: "192.0.2.7", Queue: wire.Queue{Waiting: i % 5},
		}
	}
	causes := []fleet.Alert{
		{
			Symptom: "silent",
			Code:    "nothing",
			Reason:  "no contact since 2026-03-01 09:12 UTC",
			Fix:     "on HOST: sudo systemctl restart cis490-shipper",
		},
		{
			Symptom: "doctor-failing",
			Code:    "failing-check",
			Check:   "clock.synced",
			Reason:  "online, but check failing: clock.synced (clock is not synchronized)",
			Fix:     "on HOST: sudo timedatectl set-ntp true",
		},
		{
			Symptom: "not-shipping",
			Code:    "gated",
			Check:   "gate.commit",
			Reason:  "the gate refuses the code it runs",
			Fix:     "on the receiver: sudo cis490 release list",
		},
		{
			Symptom: "cert-expiring",
			Code:    "certificate-expired",
			Check:   "cert.expiry",
			Reason:  "certificate expired at 2026-03-01 07:00 UTC",
			Fix:     "on the receiver: sudo cis490 token create HOST",
		},
	}
	return r, func(turn int) (open []fleet.Alert) {
		for i := range 200 {
			n := i*10 + (turn+i)/40%3
			a := causes[n%4]
			a.Host = fmt.Sprintf("lab-%04d", n)
			a.State, a.At, a.Since = fleet.Firing, base, base.Add(-time.Duration(1+n%7)*time.Hour)
			a.Hour = a.At.Truncate(time.Hour)
			a.Fix = strings.ReplaceAll(a.Fix, "HOST", a.Host)
			open = append(open, a)
		}
		return open
	}
}

func (b *browser) signIn(r *harness) {
	b.t.Helper()
	b.do(chromedp.Navigate(r.server.URL+"/"), chromedp.WaitVisible(chromedp.CSS("#token")))
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), "s3cret"+kb.Enter), chromedp.WaitVisible(chromedp.CSS("#hosts")))
}

// With 2,000 hosts of which 200 are sick in 4 causes, each cause is shown once, the hosts
// begin near the top, and states that change cost little, on the wire and in the browser.
func TestBrowser_LargeFleet(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	r, alerts := sickFleet(t)
	r.alerts(alerts(0)...)
	r.start()
	r.follow()
	b.see(1440, 900, false)
	b.signIn(r)
	if n := b.number(`document.querySelectorAll("#alerts article").length`); n != 4 {
		t.Errorf("%v causes, want 4", n)
	}
	if n := b.number(`document.body.innerText.split("clock is not synchronized").length - 1`); n != 1 {
		t.Errorf("a reason is shown %v times", n)
	}
	const top = `document.getElementById("hosts-title").getBoundingClientRect().top + scrollY`
	if y := b.number(top); y > 3*900 {
		t.Errorf("hosts begin at %v of 1440 pixels' width", y)
	}
	b.see(390, 844, false)
	if y := b.number(top); y > 4000 {
		t.Errorf("hosts begin at %v of 390 pixels' width", y)
	}
	t.Logf("hosts begin at %v at 390", b.number(top))
	b.see(1440, 900, false)
	t.Logf("hosts begin at %v at 1440; the page has %v bytes of HTML", b.number(top), b.number(`document.documentElement.outerHTML.length`))

	// A selection outlives the refreshes.
	b.do(chromedp.Click(chromedp.CSS(`#h-lab-0003 input`)))
	b.text(`(window.same = true)`)
	const length = time.Minute
	before, began := b.busy(), time.Now()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for turn := 1; turn <= 10 || time.Since(began) < length; turn++ { // each state is shown, however slow the machine is
		<-tick.C
		r.alerts(alerts(5 * turn)...)
		select {
		case <-b.refreshed:
		case <-time.After(5 * time.Minute):
			t.Fatalf("no refresh for state %d\n%s", turn, strings.Join(b.errors, "\n"))
		}
	}
	used := b.busy() - before
	b.mu.Lock()
	sizes := slices.Clone(b.sizes)
	b.mu.Unlock()
	if most := slices.Max(append(sizes, 0)); most > 20<<10 {
		t.Errorf("a refresh had %.0f bytes on the wire", most)
	}
	if part := used / time.Since(began).Seconds(); part > .05 {
		t.Errorf("the main thread was busy for %.1f %% of the time", 100*part)
	}
	t.Logf(
		"%d refreshes, at most %.0f bytes; main thread %.2f s of %s",
		len(sizes), slices.Max(append(sizes, 0)), used, time.Since(began).Round(time.Second),
	)
	if got := b.text(`String(window.same) + document.querySelector("#h-lab-0003 input").checked`); got != "truetrue" {
		t.Errorf("the page was loaded again, or lost its selection: %s", got)
	}
	// What the page shows after all refreshes is what a new page shows.
	const rows = `[...document.querySelectorAll("#rows tr")].map((row) => row.id + row.querySelector(".state").textContent).join()`
	shown := ""
	for range 50 {
		shown = b.text(rows)
		want := b.text(`fetch("/").then((a) => a.text()).then((text) => {
			const document = new DOMParser().parseFromString(text, "text/html");
			return ` + rows + ` })`)
		if shown == want {
			shown = ""
			break
		}
		<-tick.C
	}
	if shown != "" {
		t.Errorf("the refreshed page shows other rows than a new one: %.300s", shown)
	}
	b.quiet()
}

// quiet fails if the console has complaints.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) > 0 {
		b.t.Errorf("console:\n%s", strings.Join(b.errors, "\n"))
	}
}

// axe returns the source of axe-core, which is kept in the user's cache.
func axe(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "cis490-lab", "axe-core-"+axeVersion)
	path := filepath.Join(dir, "package", "axe.min.js")
	if _, err := os.Stat(path); err != nil {
		must(t, os.MkdirAll(dir, 0o750))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		script := "npm pack --silent axe-core@" + axeVersion + " && tar -xzf axe-core-" + axeVersion + ".tgz package/axe.min.js"
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("needs axe-core: %s: %v\n%s", script, err, out)
		}
	}
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

// No page has a violation that axe-core knows of, in any size and theme. With
// CIS490_IMAGES=folder, pictures of the pages are kept there.
func TestBrowser_Accessible(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	source := axe(t)
	r, alerts := sickFleet(t)
	open := alerts(0)
	r.alerts(open...)
	var rows, ledger strings.Builder
	for i := range 40 {
		rows.WriteString(r.json(r.row("lab-0001", i, time.Duration(40-i)*time.Minute)))
	}
	row := r.row("lab-0001", 39, time.Minute)
	r.write(local.IndexFile, rows.String())
	r.write(fmt.Sprintf("episodes/lab-0001/%s.tar.zst", row.Episode), string(r.tarball(row, "hash")))
	for _, a := range open {
		over := a
		over.Host, over.Since = a.Host, a.Since.Add(-5*time.Hour)
		over.At = over.Since.Add(time.Hour)
		ledger.WriteString(r.json(over))
	}
	for i, a := range open {
		if i%2 == 0 {
			a.State, a.At, a.Since = fleet.Resolved, r.now.Add(-3*time.Hour), a.Since.Add(-5*time.Hour)
			ledger.WriteString(r.json(a))
		}
	}
	for _, a := range open {
		ledger.WriteString(r.json(a))
	}
	r.write(local.AlertsFile, ledger.String())
	r.catalogue(episode.FormatLimits())
	r.start()
	r.follow()
	b.see(1440, 900, false)
	b.do(chromedp.Navigate(r.server.URL+"/"), chromedp.WaitVisible(chromedp.CSS("#token")))
	b.check("sign-in", source)
	b.signIn(r)
	for _, page := range []struct{ name, path string }{
		{"fleet", "/"},
		{"fleet-hosts", "/?symptom=silent&sort=-last#hosts-title"},
		{"host", "/hosts/lab-0001"},
		{
			"host-sick",
			"/hosts/lab-0200?range=24h",
		},
		{"alerts", "/alerts?range=24h"},
		{"episodes", "/episodes"},
		{"episode", fmt.Sprintf("/episodes/lab-0001/%s", row.Episode)},
		{"releases", "/releases"},
		{
			"not-found",
			"/hosts/lab-9999",
		},
	} {
		b.do(chromedp.Navigate(r.server.URL+page.path), chromedp.WaitVisible(chromedp.CSS("#main")))
		b.check(page.name, source)
	}
	for _, text := range b.errors {
		if !strings.Contains(text, "404") { // of the page that does not exist
			t.Errorf("console: %s", text)
		}
	}
}

func (b *browser) check(name, axe string) {
	b.t.Helper()
	for _, look := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"light", 1440, 900, false}, {"dark", 1440, 900, true}, {"phone", 390, 844, false}} {
		b.see(look.width, look.height, look.dark)
		if over := b.number(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			b.t.Errorf("%s, %s: %v pixels too wide", name, look.name, over)
		}
		if dir := os.Getenv("CIS490_IMAGES"); dir != "" {
			png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			must(b.t, err)
			must(b.t, os.WriteFile(filepath.Join(dir, name+"-"+look.name+".png"), png, 0o600))
		}
		b.text(`(() => { ` + axe + ` ; return "" })()`)
		var found []struct {
			ID    string
			Nodes []string
		}
		must(b.t, json.Unmarshal([]byte(b.text(`axe.run().then((r) => JSON.stringify(r.violations.map((v) =>
			({ ID: v.id, Nodes: v.nodes.slice(0, 4).map((n) => n.html.slice(0, 200)) }))))`)), &found))
		for _, v := range found {
			b.t.Errorf("%s, %s: %s:\n%s", name, look.name, v.ID, strings.Join(v.Nodes, "\n"))
		}
	}
}
