package web_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cis490/internal/listen"
	"cis490/receiver/fleet"
)

func TestSession_OnlyWithTheToken(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start()
	for _, path := range []string{"/", "/hosts/lab-01", "/episodes", "/episodes/lab-01/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst"} {
		if a := r.get(path); a.status != http.StatusSeeOther || a.header.Get("Location") != "/sign-in?next="+url.QueryEscape(path) ||
			strings.Contains(a.body, "Fleet") {
			t.Errorf("%s: %d to %q", path, a.status, a.header.Get("Location"))
		}
	}
	if a := r.get("/events"); a.status != http.StatusUnauthorized {
		t.Errorf("events: %d", a.status)
	}
	if a := r.post("/act", url.Values{}); a.status != http.StatusUnauthorized {
		t.Errorf("silence: %d", a.status)
	}
	if a := r.post("/sign-in", url.Values{"token": {"wrong"}}); a.status != http.StatusUnauthorized || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a wrong token: %d, %q", a.status, a.header.Get("Set-Cookie"))
	}
	a := r.post("/sign-in", url.Values{"token": {"s3cret"}, "next": {"/episodes?host=lab-01"}})
	cookie := a.header.Get("Set-Cookie")
	for _, want := range []string{"__Host-cis490=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	if a.header.Get("Location") != "/episodes?host=lab-01" || strings.Contains(cookie, "s3cret") {
		t.Errorf("to %q with %q", a.header.Get("Location"), cookie)
	}
	page := r.get("/")
	if page.status != http.StatusOK || !strings.Contains(page.body, "all well") {
		t.Errorf("%d %s", page.status, page.body)
	}
	csp := page.header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	for _, inline := range []string{"<script>", " style=", "onclick=", "javascript:", "<style"} {
		if strings.Contains(page.body, inline) {
			t.Errorf("page holds %s", inline)
		}
	}
	if a := r.post("/sign-out", url.Values{"code": {r.code()}}); a.status != http.StatusSeeOther {
		t.Errorf("sign out: %d", a.status)
	}
	if a := r.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("after signing out: %d", a.status)
	}
	if log := r.log.String(); strings.Contains(log, "s3cret") || !strings.Contains(log, "sign-in refused") ||
		!strings.Contains(log, "signed out") {
		t.Errorf("log:\n%s", log)
	}
}

func TestSession_EndsWithTimeAndToken(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start().signIn()
	r.write("operator", "another\n")
	if a := r.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("with a new token: %d", a.status)
	}
	r.write("operator", "s3cret\n")
	if a := r.get("/"); a.status != http.StatusOK {
		t.Errorf("with the old token again: %d", a.status)
	}
	r.now = r.now.Add(13 * time.Hour)
	if a := r.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("13 hours later: %d", a.status)
	}
}

func TestSession_GuessingIsSlow(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start()
	got := map[int]int{}
	for range 50 {
		got[r.post("/sign-in", url.Values{"token": {"guess"}}).status]++
	}
	if got[http.StatusUnauthorized] != 5 || got[http.StatusTooManyRequests] != 45 {
		t.Errorf("answers %v", got)
	}
	if a := r.post("/sign-in", url.Values{"token": {"s3cret"}}); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("the right one, too soon: %d", a.status)
	}
	r.now = r.now.Add(11 * time.Second)
	r.signIn()
}

func TestSession_RedirectsStayHere(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start()
	for _, next := range []string{
		"https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)", "/\r\nSet-Cookie: x=1",
		"\t//example.org",
	} {
		a := r.post("/sign-in", url.Values{"token": {"s3cret"}, "next": {next}})
		if a.header.Get("Location") != "/" || len(a.header.Values("Set-Cookie")) != 1 {
			t.Errorf("next %q leads to %q", next, a.header.Get("Location"))
		}
	}
}

func TestChanges_NeedAFormOfTheirOwn(t *testing.T) {
	r := newHarness(t)
	r.alerts(fleet.Alert{Host: "lab-01", Symptom: "silent", State: fleet.Firing, Since: r.now.Add(-time.Hour), Reason: "nothing at all"})
	r.start().signIn()
	form := url.Values{"do": {"silence"}, "host": {"lab-01"}, "symptom": {"silent"}, "for": {"24h"}, "next": {"/hosts/lab-01"}}
	with := func(k, v string) url.Values {
		out := maps.Clone(form)
		out.Set(k, v)
		return out
	}
	code := r.code()
	for name, a := range map[string]answer{
		"no code":      r.post("/act", form),
		"another code": r.post("/act", with("code", strings.Repeat("A", len(code)))),
		"another site": r.post("/act", with("code", code), func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }),
		"other origin": r.post("/act", with("code", code), func(q *http.Request) { q.Header.Set("Origin", "https://example.org") }),
	} {
		if a.status != http.StatusUnauthorized || len(r.quiet.all) != 0 {
			t.Errorf("%s: %d, %v", name, a.status, r.quiet.all)
		}
	}
	form.Set("code", code)
	if a := r.post("/act", with("symptom", "none-such")); a.status != http.StatusNotFound {
		t.Errorf("an alert that is not open: %d", a.status)
	}
	if a := r.post("/act", form); a.status != http.StatusSeeOther || a.header.Get("Location") != "/hosts/lab-01" {
		t.Errorf("%d to %q", a.status, a.header.Get("Location"))
	}
	got := r.quiet.all[fleet.Key{Host: "lab-01", Symptom: "silent"}]
	if !got.Until.Equal(r.now.Add(24*time.Hour)) || !strings.Contains(got.By, "192.0.2.1") {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(r.log.String(), "alert silenced") {
		t.Error("the change is not logged")
	}
	if page := r.get("/").body; !strings.Contains(page, "silenced until 2026-03-02 12:30:00") || !strings.Contains(page, `badge silenced`) {
		t.Errorf("the page does not show it:\n%s", page)
	}
}

// One machine has a whole IPv6 network: another of its addresses has no guesses of its own.
func TestSignIn_GuessesOfANetworkCountTogether(t *testing.T) {
	r := newHarness(t)
	n := 0
	r.from = func() string { n++; return fmt.Sprintf("2001:db8:0:1::%x", n) }
	r.start()
	var last answer
	for range 10 {
		last = r.post("/sign-in", url.Values{"token": {"wrong"}})
	}
	if last.status != http.StatusTooManyRequests {
		t.Errorf("the tenth guess is answered %d", last.status)
	}
}

// The page says that unknown clients lose connections, and whose most.
func TestFleet_TellsOfUnknownClients(t *testing.T) {
	r := newHarness(t)
	r.crowd = listen.Stats{Recent: 4312, RecentFrom: "10.0.0.9"}
	r.start().signIn()
	if page := r.get("/").body; !strings.Contains(
		page,
		"Unknown clients: 4\u202f312 connections evicted in the last 10 minutes, most from 10.0.0.9",
	) {
		t.Errorf("the page does not: %s", page)
	}
}

// A session that was begun while the clock was ahead ends when the clock is right,
// rather than months later.
func TestSession_OfAClockThatWasAhead(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	right := r.now
	r.now = right.Add(40 * 24 * time.Hour)
	r.start().signIn()
	if a := r.get("/"); a.status != http.StatusOK {
		t.Fatalf("signed in: %d", a.status)
	}
	r.now = right
	if a := r.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("set right: %d", a.status)
	}
}
