package server_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// TestDashboard_Story: the operator signs in to serve itself, sees an alert come
// live, silences it, and serve stops in time although the page is still live.
func TestDashboard_Story(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	if status, _, body := a.do(a.request(ep1, "content")); status != http.StatusCreated {
		t.Fatal(status, body)
	}
	jar, err := cookiejar.New(nil)
	must(t, err)
	client := r.clientOf(nil)
	client.Jar = jar
	get := func(path string) string {
		t.Helper()
		res, err := client.Get(r.url(path))
		must(t, err)
		b, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		return string(b)
	}
	if page := get("/"); !strings.Contains(page, "Operator token") || strings.Contains(page, "lab-a") {
		t.Fatalf("without a session:\n%s", page)
	}
	res, err := client.PostForm(r.url("/sign-in"), url.Values{"token": {"s3cret"}, "next": {"/hosts/lab-a"}})
	must(t, err)
	page, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	if !strings.Contains(string(page), "<h1>lab-a</h1>") {
		t.Fatalf("after signing in:\n%s", page)
	}

	live := *client
	live.Timeout = 0
	stream, err := live.Get(r.url("/events"))
	must(t, err)
	defer func() { _ = stream.Body.Close() }()
	events := bufio.NewScanner(stream.Body)
	next := func() bool {
		for events.Scan() {
			if events.Text() == "event: change" {
				return true
			}
		}
		return false
	}
	next()
	now := time.Now().UTC()
	row, err := json.Marshal(
		fleet.Alert{V: 1, At: now, Host: "lab-a", Symptom: fleet.Silent, State: fleet.Firing, Since: now, Hour: now.Truncate(time.Hour)},
	)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.config.DataDir, local.AlertsFile), append(row, '\n'), 0o600))
	last, err := json.Marshal(
		fleet.Last{At: now, Open: []fleet.Alert{{Host: "lab-a", Symptom: fleet.Silent, Since: now, Fix: "on lab-a: sudo x"}}},
	)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.config.DataDir, receiver.FleetCheckDoc), last, 0o600))
	for {
		if !next() {
			t.Fatal("the stream ended before it sent the alert")
		}
		if strings.Contains(get("/"), "<code>sudo x</code>") {
			break
		}
	}
	code := regexp.MustCompile(`name="code" value="([^"]+)"`).FindStringSubmatch(get("/"))
	form := url.Values{"do": {"silence"}, "code": {code[1]}, "host": {"lab-a"}, "symptom": {"silent"}, "next": {"/"}}
	res, err = client.PostForm(r.url("/act"), form)
	must(t, err)
	page, err = io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != http.StatusOK || !strings.Contains(string(page), "silenced until it resolves") {
		t.Errorf("%d\n%s", res.StatusCode, page)
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url("/metrics"), nil)
	must(t, err)
	if status, kind, _ := a.do(ask); status != http.StatusUnauthorized {
		t.Errorf("metrics for a stranger: %d %s", status, kind)
	}
	ask.Header.Set("Authorization", "Bearer s3cret")
	status, _, figures := a.do(ask)
	for _, want := range []string{
		`cis490_ingest_total{outcome="stored"} 1`, `cis490_requests_total{code="201",route="PUT /v1/episodes/{host}/{file}"} 1`,
		`cis490_alerts_open{symptom="silent"} 1`, `{host="lab-a"}`,
	} {
		if status != http.StatusOK || !strings.Contains(figures, want) {
			t.Errorf("metrics: %d, without %s", status, want)
		}
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}
