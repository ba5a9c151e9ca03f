//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// The lab's pace: a host is silent after 90 seconds instead of 30 minutes, and fleet-check
// runs every 15 seconds. Only config and drop-ins of the site are changed for that.
const (
	silentAfter = 90 * time.Second
	checkEvery  = 15 * time.Second
)

// An alert is an entry of `cis490 alerts list --json`.
type alert struct {
	Host    string `json:"host"`
	Symptom string `json:"symptom"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Code    string `json:"reason_code"`
	Fix     string `json:"fix"`
	Detail  string `json:"detail"`
	Quiet   bool   `json:"quiet"`
}

// watchFleet makes fleet-check run at the lab's pace.
func (f *fleet) watchFleet() {
	f.t.Helper()
	f.watchFleetAt(silentAfter)
}

// watchFleetAt is watchFleet with another silent_after.
func (f *fleet) watchFleetAt(silent time.Duration) {
	f.t.Helper()
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{"silent_after": silent.String(), "never_reported": "1m"})
	setTimer(f.rx, "cis490-fleet-health", checkEvery)
	f.rx.Run("cis490 config check && systemctl restart cis490-receiver")
}

// setConfig sets keys of a config that are commented out, to strings.
func setConfig(h machine, path string, values map[string]string) {
	config := h.Read(path)
	for key, value := range values {
		if at := regexp.MustCompile(`(?m)^# ` + key + ` = .*$`).FindStringIndex(config); at != nil {
			config = config[:at[0]] + fmt.Sprintf("%s = %q", key, value) + config[at[1]:]
		}
	}
	h.Write(path, config, 0o644)
}

// setTimer sets a timer's interval by a drop-in of the site.
func setTimer(h *lab.Host, timer string, d time.Duration) {
	h.Write("/etc/systemd/system/"+timer+".timer.d/lab.conf", fmt.Sprintf(
		"[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1s\nOnUnitInactiveSec=%s\nRandomizedDelaySec=0\nAccuracySec=1s\n", d), 0o644)
	h.Run("systemctl daemon-reload && systemctl restart " + timer + ".timer")
}

// speedUp makes a host ping, record and run doctor at the lab's pace. Autoupdate is off,
// so that it does not repair the host before an alert.
func (f *fleet) speedUp(h *lab.Host) {
	f.t.Helper()
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{
		"ping_every": "15s", "rest": "5s",
		"outbox_oldest": "90s", "last_accepted": "90s", "disk_reserve": "32 MiB",
	})
	h.Run("cis490 config check && systemctl restart cis490-shipper cis490-orchestrator")
	setTimer(h, "cis490-doctor-check", 20*time.Second)
	delayAutoupdate(h)
}

// delayAutoupdate delays autoupdate by a day, so that it does not repair the fault under
// test.
func delayAutoupdate(h *lab.Host) {
	h.Write("/etc/systemd/system/cis490-autoupdate.timer.d/lab.conf", "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnActiveSec=1d\n", 0o644)
	h.Run("systemctl daemon-reload && systemctl restart cis490-autoupdate.timer")
}

// open returns the open alerts.
func (f *fleet) open() []alert {
	f.t.Helper()
	var all []alert
	if err := json.Unmarshal([]byte(f.rx.Run("cis490 alerts list --json")), &all); err != nil {
		f.t.Fatalf("alerts list: %v", err)
	}
	return all
}

// rows returns all rows of alerts.jsonl.
func (f *fleet) rows() []alert {
	f.t.Helper()
	var all []alert
	if err := json.Unmarshal([]byte(f.rx.Run("cis490 alerts list --all --json")), &all); err != nil {
		f.t.Fatalf("alerts list --all: %v", err)
	}
	return all
}

// waitAlert waits for an open alert with this reason code, and returns it.
func (f *fleet) waitAlert(limit time.Duration, host, symptom, code string) alert {
	f.t.Helper()
	f.rx.Eventually(limit, fmt.Sprintf("alert of %s: %s, because %s", host, symptom, code), fmt.Sprintf(
		`cis490 alerts list --json | tee /tmp/open | jq -se 'any(.[0][]; .host == "%s" and .symptom == "%s" and .reason_code == "%s")' || `+
			`{ jq -c '.[]|[.host,.symptom,.reason_code,.reason]' /tmp/open; false; }`, host, symptom, code))
	for _, a := range f.open() {
		if a.Host == host && a.Symptom == symptom && a.Code == code {
			return a
		}
	}
	f.t.Fatalf("alert of %s: %s was open for a moment only", host, symptom)
	return alert{}
}

// waitAllResolved waits until the host has no open alert, and checks that the last row of
// each symptom is resolved.
func (f *fleet) waitAllResolved(limit time.Duration, host string) {
	f.t.Helper()
	f.rx.Eventually(limit, "no open alert of "+host, fmt.Sprintf(
		`cis490 alerts list --json | tee /tmp/open | jq -se 'all(.[0][]; .host != "%s")' || `+
			`{ jq -c '.[]|[.host,.symptom,.reason_code,.reason]' /tmp/open; false; }`, host))
	last := map[string]string{}
	for _, a := range f.rows() {
		if a.Host == host {
			last[a.Symptom] = a.State
		}
	}
	for symptom, state := range last {
		if state != "resolved" {
			f.t.Errorf("%s: the last row of %s has state %q", host, symptom, state)
		}
	}
}

// pasteFixes pastes the fix of each alert of these hosts, until no alert of any host has
// been open for three runs of fleet-check. One fix may lead to another alert: a host with
// a renewed certificate can report more.
func (f *fleet) pasteFixes(limit time.Duration, hosts ...string) {
	f.t.Helper()
	pasted := map[string]bool{}
	before := ""
	lastOpen := time.Now()
	for end := time.Now().Add(limit); time.Since(lastOpen) < 3*checkEvery; time.Sleep(time.Second) {
		still := ""
		for _, a := range f.open() {
			lastOpen = time.Now()
			still += " " + a.Host + ":" + a.Symptom
			if slices.Contains(hosts, a.Host) && !pasted[a.Fix] {
				pasted[a.Fix] = true
				f.paste(a.Fix)
			}
			if time.Now().After(end) {
				f.t.Fatalf("still open after %s: %+v", limit, a)
			}
		}
		if still != before {
			f.t.Logf("%s: open:%s", time.Now().Format(time.TimeOnly), still)
			before = still
		}
	}
	last := map[string]string{}
	for _, a := range f.rows() {
		last[a.Host+" "+a.Symptom] = a.State
	}
	for what, state := range last {
		if state != "resolved" {
			f.t.Errorf("the last row of %s has state %q", what, state)
		}
	}
}

// paste runs a fix as printed, on the machine that it names. If the fix ends with "then
// paste what it prints on" another machine, paste does that too.
func (f *fleet) paste(fix string) {
	f.t.Helper()
	on, command, ok := strings.Cut(fix, ": ")
	if !ok {
		f.t.Fatalf("fix without a machine: %q", fix)
	}
	_, then, _ := strings.Cut(command, "# then paste what it prints on ")
	machine := f.rx
	if name, is := strings.CutPrefix(on, "on lab"); is {
		machine = f.Host("lab" + name)
	} else if on != "on the receiver" {
		f.t.Fatalf("fix for an unknown machine: %q", fix)
	}
	out := machine.Run(command)
	if then != "" {
		name, _, _ := strings.Cut(then, ";")
		f.Host(name).Run("cd /root\n" + out)
	}
}

// writeTemp writes a temporary file on this machine and returns its path.
func writeTemp(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
