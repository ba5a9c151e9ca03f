package web_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// markup returns texts that become elements or scripts wherever one of the contexts of a
// page does not escape them: text, attributes with and without quotes, titles, scripts,
// styles, comments, addresses.
func markup() []string {
	return []string{
		`<script>pwned=1</script>"'><img src=x onerror=pwned=2>`,
		`jaVasCript:/*-/*` + "`" + `/*\` + "`" + `/*'/*"/**/(/* */oNcliCk=pwned=3 )//` +
			`</stYle/</titLe/</teXtarEa/</scRipt/--!>\x3csVg/<sVg/oNloAd=pwned=4//>`,
		`x onmouseover=pwned=5 autofocus onfocus=pwned=6 y`,
		`</option></select></template><iframe srcdoc="<script>top.pwned=7</script>"></iframe><base href=//evil.example/>`,
		`javascript:pwned=8`,
		`&lt;img src=x onerror=pwned=9&gt;<meta http-equiv=refresh content=0;url=//evil.example/>`,
	}
}

// foreign is a script that lists what no page of this site has: handlers in attributes,
// addresses elsewhere, elements that load or run something.
const foreign = `(() => {
	const found = [];
	if (typeof pwned !== "undefined") found.push("a script ran: " + pwned);
	const here = (text) => { try { return new URL(text, location.href).origin === location.origin } catch { return false } };
	for (const e of document.querySelectorAll("*")) {
		for (const a of e.attributes) {
			if (a.name.startsWith("on") || a.name === "srcdoc") found.push(e.tagName + " has " + a.name);
			if (["href", "src", "action", "formaction", "data"].includes(a.name) && !here(a.value)) found.push(e.tagName + " leads to " + a.value);
		}
		if (["IFRAME", "OBJECT", "EMBED", "BASE", "STYLE"].includes(e.tagName.toUpperCase()) || e.matches("meta[http-equiv]") ||
			e.matches("script:not([src^='/assets/'])")) found.push(e.tagName);
	}
	return found.join("; ");
})()`

// TestBrowser_HostileText: texts of hosts, operators, releases, episodes and links run nothing
// in a browser and become no elements, when a page is loaded and when it refreshes itself.
// The console has no complaint, so the content security policy had nothing to stop.
func TestBrowser_HostileText(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	for i, text := range markup() {
		r := hostileSite(t, text)
		if i == 0 {
			b.see(1440, 900, false)
		}
		b.do(chromedp.Navigate(r.server.URL+"/sign-in?next="+url.QueryEscape(text)), chromedp.WaitVisible(chromedp.CSS("#token")))
		b.harmless(text, "sign-in")
		if i == 0 { // the session is good for all: cookies are sent to every port, and the token is the same
			b.signIn(r)
		}
		q := url.QueryEscape(text)
		paths := []string{
			"/", "/hosts/lab-01", "/releases", "/alerts", "/episodes", "/#" + url.PathEscape(text), "/hosts/" + url.PathEscape(text),
			"/no/" + url.PathEscape(text), "/episodes/lab-01/" + url.PathEscape(text),
			"/?q=" + q + "&state=" + q + "&symptom=" + q + "&version=" + q + "&tag=" + q + "&cause=" + q + "&sort=" + q,
			"/?" + q + "=" + q, "/alerts?range=" + q, "/hosts/lab-01?range=" + q,
			"/episodes?host=" + q + "&q=" + q + "&profile=" + q + "&class=" + q + "&verdict=" + q + "&before=" + q + "&from=" + q + "&to=" + q,
			fmt.Sprintf("/episodes/lab-01/%s?%s", r.row("lab-01", 1, time.Hour).Episode, q),
		}
		for _, path := range paths {
			b.do(chromedp.Navigate(r.server.URL+path), chromedp.WaitReady(chromedp.CSS("body")))
			b.harmless(text, path)
		}
		b.do(chromedp.Navigate(r.server.URL+"/"), chromedp.WaitVisible(chromedp.CSS("#hosts")))
		r.alerts(fleet.Alert{
			At: r.now, Host: "lab-01", Symptom: "cloned", State: fleet.Firing, Since: r.now, Detail: text, Reason: text, Code: text,
			Fix: "on lab-01: " + text,
		})
		b.text(`new Promise((done, failed) => {
			const look = () => byId("alerts").innerText.includes("cloned") ? done("") : setTimeout(look, 20);
			setTimeout(() => failed("no refresh"), 120000);
			look();
		})`)
		b.harmless(text, "a refresh")
		b.do(chromedp.Navigate("about:blank")) // ends its stream of events
	}
	// The script finds what it looks for.
	for _, text := range markup()[:4] {
		html := "<p title=" + text + ">" + text + "</p>"
		if got := b.text(fmt.Sprintf(`(document.body.innerHTML = %q, String(%s))`, html, foreign)); got == "" {
			t.Errorf("not found in a page without escapes: %s", text)
		}
	}
}

// hostileSite is a dashboard with a text in every field.
func hostileSite(t *testing.T, text string) *harness {
	t.Helper()
	r := hostileFleet(t, text)
	began := time.Now()
	base := r.now
	r.clock = func() time.Time { return base.Add(time.Since(began)) }
	r.hosts = []roster.Host{
		{Name: "lab-01", State: roster.Active},
		{Name: ident.Host(text), State: roster.Active, MisusedFrom: text, Misused: base},
	}
	row := r.row("lab-01", 1, time.Hour)
	r.write(local.IndexFile, r.json(row))
	r.write(fmt.Sprintf("episodes/lab-01/%s.tar.zst", row.Episode), string(r.tarball(row, text)))
	commit := ident.Commit(strings.Repeat("d", 40))
	r.publish(7, "v2")
	r.write("releases/rollout.json", r.json(manifest.Rollout{V: 1, Releases: []*manifest.Progress{
		{Seq: 7, Version: text, Commit: commit, Stage: manifest.Stage(text), Reason: text, Canaries: []ident.Host{"lab-01"}},
	}}))
	r.write("host-notes.json", r.json(map[string]any{"v": 1, "hosts": map[string]any{
		"lab-01": map[string]any{"tags": []string{text}, "room": text, "note": text},
	}}))
	r.catalogue(episode.FormatLimits())
	r.start()
	r.follow()
	return r
}

// harmless fails if a page has something foreign, or the console complains of anything but
// pages that do not exist.
func (b *browser) harmless(text, where string) {
	b.t.Helper()
	if got := b.text(foreign); got != "" {
		b.t.Errorf("%s with %s: %s", where, text, got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.errors {
		if !strings.Contains(line, "status of 404") && !strings.Contains(line, "status of 400") {
			b.t.Errorf("%s with %s: console: %s", where, text, line)
		}
	}
	b.errors = nil
}
