package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// TestFleet_AFailingReportShowsAtOnce: before the next fleet-check opens an alert.
func TestFleet_AFailingReportShowsAtOnce(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	body := `{"schema":"cis490.doctor/1","checks":[{"id":"units.active","status":"fail"},{"id":"kvm.device","status":"warn"}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url("/v1/host-health/lab-a"), strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+a.bearer)
	if status, kind, _ := a.do(req); status != http.StatusCreated {
		t.Fatalf("report: %d %s", status, kind)
	}
	r.eventually("the host is shown as failing", func() bool {
		req := r.get("/v1/fleet")
		req.Header.Set("Authorization", "Bearer s3cret")
		_, _, got := a.do(req)
		return strings.Contains(got, `"health":"failing"`) && strings.Contains(got, `"failing":["units.active"]`)
	})
}

// TestAlerts_Story: the operator sees what is open, and silences it; a refused
// silence leaves no file.
func TestAlerts_Story(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	now := time.Now().UTC()
	row, err := json.Marshal(
		fleet.Alert{V: 1, At: now, Host: "lab-a", Symptom: fleet.Silent, State: fleet.Firing, Since: now, Hour: now.Truncate(time.Hour)},
	)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.config.DataDir, local.AlertsFile), append(row, '\n'), 0o600))
	last, err := json.Marshal(fleet.Last{
		At: now, Open: []fleet.Alert{
			{V: 1, At: now, Host: "lab-a", Symptom: fleet.Unstamped, State: fleet.Firing, Since: now, Hour: now.Truncate(time.Hour)},
			{
				V:       1,
				At:      now,
				Host:    "lab-a",
				Symptom: fleet.Silent,
				State:   fleet.Firing,
				Since:   now,
				Hour:    now.Truncate(time.Hour),
				Fix:     "on lab-a: x",
			},
		},
		Seen: []fleet.Sight{{Host: "lab-a", Symptom: fleet.Unstamped, Since: now}},
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.config.DataDir, receiver.FleetCheckDoc), last, 0o600))
	soon, past := now.Add(time.Hour).Format(time.RFC3339), now.Add(-time.Hour).Format(time.RFC3339)

	file := filepath.Join(r.config.DataDir, local.SilencesFile)
	for i, s := range []struct {
		method, path, body, bearer string
		status                     int
		want                       string
	}{
		{"GET", "/v1/alerts", "", "", 401, "needs-operator"},
		{"GET", "/v1/fleet", "", a.bearer, 401, "needs-operator"},
		{"POST", "/v1/alerts/lab-a/silent/silence", "{}", a.bearer, 401, "needs-operator"},
		{"POST", "/v1/alerts/lab-a/bored/silence", "{}", "s3cret", 400, "malformed"},
		{"POST", "/v1/alerts/LAB/silent/silence", "{}", "s3cret", 400, "malformed"},
		{"POST", "/v1/alerts/lab-a/gone/silence", "{}", "s3cret", 404, "not-found"},
		{"POST", "/v1/alerts/lab-a/silent/silence", `{"until":"` + past + `"}`, "s3cret", 400, "malformed"},
		{"POST", "/v1/alerts/lab-a/silent/silence", `[]`, "s3cret", 400, "malformed"},
		{"GET", "/v1/alerts", "", "s3cret", 200, `"fix":"on lab-a: x"}`},
		{"GET", "/v1/fleet", "", "s3cret", 200, `"ready":true`},
		// From here on there are silences.
		{"POST", "/v1/alerts/lab-a/silent/silence", `{"comment":"known\u001b[31m"}`, "s3cret", 201, `"comment":"known [31m"`},
		{"GET", "/v1/alerts", "", "s3cret", 200, `"silenced":true`},
		{"POST", "/v1/alerts/lab-a/silent/silence", `{"end":true}`, "s3cret", 201, `"end":true`},
		{"GET", "/v1/alerts", "", "s3cret", 200, `"fix":"on lab-a: x"}`},
		// What came back within the hour has no row of its own yet.
		{"POST", "/v1/alerts/lab-a/unstamped/silence", `{}`, "s3cret", 201, `"symptom":"unstamped"`},
		{"POST", "/v1/alerts/@receiver/disk-low/silence", `{"until":"` + soon + `"}`, "s3cret", 201, `"until"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), s.method, r.url(s.path), strings.NewReader(s.body))
		must(t, err)
		if s.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+s.bearer)
		}
		status, kind, body := a.do(req)
		if status != s.status || !strings.Contains(string(kind)+" "+body, s.want) {
			t.Errorf("%s %s %s: %d %s %.300s, want %d %s", s.method, s.path, s.body, status, kind, body, s.status, s.want)
		}
		if _, err := os.Stat(file); err == nil && i < 10 {
			t.Fatalf("%s %s left a silence", s.method, s.path)
		}
	}
	b, err := os.ReadFile(file)
	must(t, err)
	if n := strings.Count(string(b), "\n"); n != 4 {
		t.Error(fmt.Sprint(n, " rows: ", string(b)))
	}
}
