package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
)

// twoCauses is four hosts: two are sick for one reason, one for another.
func twoCauses(t *testing.T) *harness {
	t.Helper()
	r := newHarness(t)
	for i := range 4 {
		name := ident.Host(fmt.Sprintf("lab-%02d", i+1))
		r.hosts = append(r.hosts, roster.Host{Name: name, State: roster.Active})
		r.book.Hosts[name] = &contacts.Contact{LastContact: r.now, LastPing: r.now, Version: fmt.Sprintf("v%d", i%2)}
	}
	alert := func(host, symptom, code string) fleet.Alert {
		return fleet.Alert{
			Host: host, Symptom: symptom, State: fleet.Firing, Code: code, Since: r.now.Add(-time.Hour), Reason: "because of " + code,
			Fix: "on " + host + ": sudo mend",
		}
	}
	r.alerts(alert("lab-01", "silent", "nothing"), alert("lab-02", "silent", "nothing"), alert("lab-03", "not-shipping", "gated"))
	return r.start().signIn()
}

func (r *harness) act(form url.Values) answer {
	r.t.Helper()
	form.Set("code", r.code())
	return r.post("/act", form)
}

// A cause is silenced and heard again as a whole, and so are the alerts of selected hosts.
func TestAct_ByCauseAndByHosts(t *testing.T) {
	r := twoCauses(t)
	silenced := func() string {
		t.Helper()
		var all []string
		for _, h := range []string{"lab-01", "lab-02", "lab-03"} {
			for k := range r.quiet.all {
				if k.Host == h {
					all = append(all, h)
				}
			}
		}
		return strings.Join(all, " ")
	}
	page := r.get("/").body
	if strings.Count(page, "because of nothing") != 1 || strings.Count(page, "<article") != 2 || !strings.Contains(page, "<title>(3) Fleet") {
		t.Errorf("the causes are not shown once each:\n%s", page)
	}
	for _, c := range []struct {
		form   url.Values
		status int
		want   string
	}{
		{url.Values{"do": {"silence"}, "cause": {"nothing"}}, http.StatusSeeOther, "lab-01 lab-02"},
		{url.Values{"do": {"silence"}, "cause": {"nothing"}}, http.StatusNotFound, "lab-01 lab-02"},
		{url.Values{"do": {"silence"}, "host": {"lab-03", "lab-04"}, "for": {"1h"}}, http.StatusSeeOther, "lab-01 lab-02 lab-03"},
		{url.Values{"do": {"unsilence"}, "host": {"lab-01"}}, http.StatusSeeOther, "lab-02 lab-03"},
		{url.Values{"do": {"unsilence"}, "cause": {"nothing"}}, http.StatusSeeOther, "lab-03"},
		{url.Values{"do": {"silence"}}, http.StatusNotFound, "lab-03"},
		{url.Values{"do": {"silence"}, "host": {"lab-01"}, "for": {"2h"}}, http.StatusBadRequest, "lab-03"},
		{url.Values{"do": {"explode"}, "host": {"lab-01"}}, http.StatusBadRequest, "lab-03"},
	} {
		if a := r.act(c.form); a.status != c.status || silenced() != c.want {
			t.Errorf("%v: %d, silenced %s, want %d, %s", c.form, a.status, silenced(), c.status, c.want)
		}
	}
	if log := r.log.String(); strings.Count(log, "alert silenced") != 3 || strings.Count(log, "alert unsilenced") != 2 ||
		!strings.Contains(log, "from=192.0.2.1") {
		t.Errorf("not all changes are logged:\n%s", log)
	}
}

// Who belongs to the fleet is changed by root on the receiver: the page shows the command.
func TestAct_ShowsCommandsForRoot(t *testing.T) {
	r := twoCauses(t)
	for want, form := range map[string]url.Values{
		"<code>sudo cis490 host decommission lab-01 lab-02</code>": {"do": {"decommission"}, "host": {"lab-01", "lab-02"}},
		"<code>sudo cis490 token create lab-09</code>":             {"do": {"token"}, "name": {"lab-09"}},
		"knows no host lab-99":                                     {"do": {"decommission"}, "host": {"lab-99"}},
		"no host is selected":                                      {"do": {"decommission"}},
		"invalid":                                                  {"do": {"token"}, "name": {"$(reboot)"}},
	} {
		if a := r.act(form); !strings.Contains(a.body, want) && want != "invalid" ||
			strings.Contains(a.body, "<code>sudo cis490 token create $(") {
			t.Errorf("%v: %d, want %q:\n%s", form, a.status, want, a.body)
		}
	}
}

// Notes are stored, shown, searched and filtered, and survive a restart.
func TestNotes(t *testing.T) {
	r := twoCauses(t)
	form := url.Values{"code": {r.code()}, "tags": {"GPU, blue gpu"}, "room": {"12 <b>"}, "note": {evil + strings.Repeat("A", 1000)}}
	if a := r.post("/hosts/lab-04/notes", form); a.status != http.StatusSeeOther || a.header.Get("Location") != "/hosts/lab-04" {
		t.Fatalf("%d to %q", a.status, a.header.Get("Location"))
	}
	names := func(path string) string {
		var all []string
		for _, m := range regexp.MustCompile(`<tr id="h-([^"]+)"`).FindAllStringSubmatch(r.get(path).body, -1) {
			all = append(all, m[1])
		}
		return strings.Join(all, " ")
	}
	for range 2 {
		if page := r.get("/hosts/lab-04").body; !strings.Contains(page, `value="blue gpu"`) || !strings.Contains(page, `value="12 &lt;b&gt;"`) ||
			strings.Contains(page, "<script>") {
			t.Errorf("the page does not show the notes:\n%s", page)
		}
		for path, want := range map[string]string{
			"/?tag=gpu": "lab-04", "/?q=blue": "lab-04", "/?tag=none": "", "/?cause=nothing": "lab-01 lab-02", "/?symptom=not-shipping": "lab-03",
			"/?version=v1&sort=-name": "lab-04 lab-02", "/?sort=name": "lab-01 lab-02 lab-03 lab-04", "/?sort=bored": "lab-01 lab-02 lab-03 lab-04",
		} {
			if got := names(path); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		r.start().signIn()
	}
	for _, bad := range []string{"a b c d e f g h i j k", "<b>", strings.Repeat("x", 31)} {
		if a := r.post("/hosts/lab-04/notes", url.Values{"code": {r.code()}, "tags": {bad}}); a.status != http.StatusBadRequest {
			t.Errorf("tags %q: %d", bad, a.status)
		}
	}
	// A page that was opened before somebody else's change does not replace that.
	shown := regexp.MustCompile(`name="shown" value="(\w+)"`).FindStringSubmatch(r.get("/hosts/lab-04").body)[1]
	for i, want := range []int{http.StatusSeeOther, http.StatusSeeOther, http.StatusBadRequest} {
		form := url.Values{"code": {r.code()}, "room": {fmt.Sprint("room ", i/2)}, "shown": {shown}}
		if a := r.post("/hosts/lab-04/notes", form); a.status != want || want == http.StatusBadRequest && !strings.Contains(a.body, "room 1") {
			t.Errorf("change %d: %d, want %d: %s", i, a.status, want, a.body)
		}
	}
	if a := r.post("/hosts/lab-77/notes", url.Values{"code": {r.code()}}); a.status != http.StatusNotFound {
		t.Errorf("notes of an unknown host: %d", a.status)
	}
}

// A live page gets the parts that it does not have, and nothing if it has all.
func TestParts_OnlyWhatChanged(t *testing.T) {
	r := twoCauses(t)
	ask := func(marks string) (status int, ids []string, order []string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL+"/", nil)
		must(t, err)
		req.Header.Set("Cis490-Marks", marks)
		a := r.do(req)
		var change struct {
			Title string
			Parts []struct{ ID, Mark, HTML string }
			Order []string
		}
		if a.status == http.StatusOK {
			must(t, json.Unmarshal([]byte(a.body), &change))
		}
		for _, p := range change.Parts {
			ids = append(ids, p.ID)
		}
		return a.status, ids, change.Order
	}
	marks := func() string {
		var all []string
		for _, m := range regexp.MustCompile(` data-live="([^"]+)"`).FindAllStringSubmatch(r.get("/").body, -1) {
			all = append(all, m[1])
		}
		return strings.Join(all, " ")
	}
	had := marks()
	if status, ids, _ := ask(had); status != http.StatusNoContent {
		t.Errorf("nothing changed: %d %v", status, ids)
	}
	r.now = r.now.Add(10 * time.Second) // relative times are the page's own
	if status, ids, _ := ask(had); status != http.StatusNoContent {
		t.Errorf("10 seconds later: %d %v", status, ids)
	}
	r.alerts(fleet.Alert{Host: "lab-03", Symptom: "not-shipping", State: fleet.Firing, Code: "gated", Since: r.now, Reason: "r"})
	r.now = r.now.Add(2 * time.Second)
	status, ids, order := ask(had)
	if got := strings.Join(ids, " "); status != http.StatusOK || got != "summary alerts h-lab-01 h-lab-02" {
		t.Errorf("two hosts resolved: %d %s", status, got)
	}
	if got := strings.Join(order, " "); got != "h-lab-03 h-lab-01 h-lab-02 h-lab-04" {
		t.Errorf("order %s", got)
	}
}

// Pages are compressed, assets never change, and a wrong path has a page of its own.
func TestPages_CompressedImmutableAndNotFound(t *testing.T) {
	r := twoCauses(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL+"/", nil)
	must(t, err)
	req.Header.Set("Accept-Encoding", "gzip")
	if a := r.do(req); a.header.Get("Content-Encoding") != "gzip" || len(a.body) > 8000 {
		t.Errorf("%d bytes, %v", len(a.body), a.header)
	}
	asset := regexp.MustCompile(`/assets/style.css\?v=\w+`).FindString(r.get("/").body)
	if a := r.get(asset); a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("%s: %d %v", asset, a.status, a.header)
	}
	if a := r.get("/assets/style.css?v=old"); strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("another version is immutable: %v", a.header)
	}
	if a := r.get("/hosts/lab-99"); a.status != http.StatusNotFound || !strings.Contains(a.body, "knows no host lab-99") ||
		!strings.Contains(a.body, `<a href="/alerts">`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The button that tests notifications shows each target's result, escaped.
func TestAct_TestNotify(t *testing.T) {
	r := twoCauses(t)
	a := r.act(url.Values{"do": {"test-notify"}})
	if a.status != http.StatusNotFound || strings.Contains(r.get("/alerts").body, "test-notify") {
		t.Errorf("without targets to test: %d", a.status)
	}
	r = newHarness(t)
	r.tests = func(context.Context) map[string]error {
		return map[string]error{"heartbeat": nil, "webhook": errors.New("<b>refused</b>")}
	}
	r.start().signIn()
	if !strings.Contains(r.get("/alerts").body, `value="test-notify"`) {
		t.Error("the page of alerts has no button")
	}
	a = r.act(url.Values{"do": {"test-notify"}})
	for _, want := range []string{">heartbeat</span> delivered", ">webhook</span> failed: &lt;b&gt;refused&lt;/b&gt;"} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%d, want %s: %s", a.status, want, a.body)
		}
	}
}
