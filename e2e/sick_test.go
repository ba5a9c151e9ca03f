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

// pace is how much faster than a real one this fleet is watched: a host is silent
// after 90 seconds rather than 30 minutes, fleet-check runs every 15 seconds.
// Nothing but config and drop-ins of the site is changed for it.
const (
	silentAfter = 90 * time.Second
	checkEvery  = 15 * time.Second
)

// alert is what a scenario reads of `cis490 alerts list --json`.
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

// watched makes the receiver judge its fleet at the lab's pace.
func (f *fleet) watched() {
	f.t.Helper()
	f.watchedAt(silentAfter)
}

// watchedAt is watched with another time after which a host is silent.
func (f *fleet) watchedAt(silent time.Duration) {
	f.t.Helper()
	set(f.rx, "/etc/cis490/receiver.toml", map[string]string{"silent_after": silent.String(), "never_reported": "1m"})
	every(f.rx, "cis490-fleet-health", checkEvery)
	f.rx.Run("cis490 config check && systemctl restart cis490-receiver")
}

// set gives keys of a config other values than their defaults.
func set(h *lab.Host, path string, values map[string]string) {
	config := h.Read(path)
	for key, value := range values {
		config = regexp.MustCompile(`(?m)^# `+key+` = .*$`).ReplaceAllString(config, fmt.Sprintf("%s = %q", key, value))
	}
	h.Write(path, config, 0o644)
}

// every sets a timer's interval, as a site would.
func every(h *lab.Host, timer string, d time.Duration) {
	h.Write("/etc/systemd/system/"+timer+".timer.d/lab.conf", fmt.Sprintf(
		"[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1s\nOnUnitInactiveSec=%s\nRandomizedDelaySec=0\nAccuracySec=1s\n", d), 0o644)
	h.Run("systemctl daemon-reload && systemctl restart " + timer + ".timer")
}

// quick makes a host ping, record and check itself at the lab's pace. What mends
// it by itself is off: a scenario wants to see what a person is told.
func (f *fleet) quick(h *lab.Host) {
	f.t.Helper()
	h.Write("/etc/cis490/experiment.toml", light, 0o644)
	set(h, "/etc/cis490/lab-host.toml", map[string]string{
		"experiment": "/etc/cis490/experiment.toml", "ping_every": "15s", "rest": "5s", "outbox_oldest": "90s", "last_accepted": "90s", "disk_reserve": "32 MiB",
	})
	h.Run("cis490 config check && systemctl restart cis490-shipper cis490-orchestrator")
	every(h, "cis490-doctor-check", 20*time.Second)
	unmended(h)
}

// unmended puts autoupdate off, which would mend what a person shall be told.
func unmended(h *lab.Host) {
	h.Write("/etc/systemd/system/cis490-autoupdate.timer.d/lab.conf", "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnActiveSec=1d\n", 0o644)
	h.Run("systemctl daemon-reload && systemctl restart cis490-autoupdate.timer")
}

// open returns the alerts that are open now.
func (f *fleet) open() []alert {
	f.t.Helper()
	var all []alert
	if err := json.Unmarshal([]byte(f.rx.Run("cis490 alerts list --json")), &all); err != nil {
		f.t.Fatalf("alerts list: %v", err)
	}
	return all
}

// rows returns all rows of alerts.jsonl that say something of a host.
func (f *fleet) rows() []alert {
	f.t.Helper()
	var all []alert
	if err := json.Unmarshal([]byte(f.rx.Run("cis490 alerts list --all --json")), &all); err != nil {
		f.t.Fatalf("alerts list --all: %v", err)
	}
	return all
}

// waitOpen waits for an alert with this reason.
func (f *fleet) waitOpen(limit time.Duration, host, symptom, code string) alert {
	f.t.Helper()
	f.rx.Eventually(limit, fmt.Sprintf("alert of %s: %s, because %s", host, symptom, code), fmt.Sprintf(
		`cis490 alerts list --json | tee /tmp/open | jq -se 'any(.[0][]; .host == "%s" and .symptom == "%s" and .reason_code == "%s")' || { jq -c '.[]|[.host,.symptom,.reason_code,.reason]' /tmp/open; false; }`, host, symptom, code))
	for _, a := range f.open() {
		if a.Host == host && a.Symptom == symptom && a.Code == code {
			return a
		}
	}
	f.t.Fatalf("alert of %s: %s came and went", host, symptom)
	return alert{}
}

// waitWell waits until no alert of the host is open, and the last row of each says
// that it is over.
func (f *fleet) waitWell(limit time.Duration, host string) {
	f.t.Helper()
	f.rx.Eventually(limit, "no open alert of "+host, fmt.Sprintf(
		`cis490 alerts list --json | tee /tmp/open | jq -se 'all(.[0][]; .host != "%s")' || { jq -c '.[]|[.host,.symptom,.reason_code,.reason]' /tmp/open; false; }`, host))
	last := map[string]string{}
	for _, a := range f.rows() {
		if a.Host == host {
			last[a.Symptom] = a.State
		}
	}
	for symptom, state := range last {
		if state != "resolved" {
			f.t.Errorf("%s: the last row of %s says %s", host, symptom, state)
		}
	}
}

// mend does what a person does who only pastes: the fix of each alert of these
// hosts, as it comes, until no alert of any host is open and none comes any more. A
// host whose certificate is renewed may have more to say.
func (f *fleet) mend(limit time.Duration, hosts ...string) {
	f.t.Helper()
	pasted := map[string]bool{}
	before := ""
	calm := time.Now()
	for end := time.Now().Add(limit); time.Since(calm) < 3*checkEvery; time.Sleep(time.Second) {
		still := ""
		for _, a := range f.open() {
			calm = time.Now()
			still += " " + a.Host + ":" + a.Symptom
			if slices.Contains(hosts, a.Host) && !pasted[a.Fix] {
				pasted[a.Fix] = true
				f.paste(a.Fix)
			}
			if time.Now().After(end) {
				f.t.Fatalf("not mended after %s: %+v", limit, a)
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
			f.t.Errorf("the last row of %s says %s", what, state)
		}
	}
}

// paste runs what a fix says, as printed, on the machine that it names. What it
// prints "then paste on" the other machine is pasted there.
func (f *fleet) paste(fix string) {
	f.t.Helper()
	on, command, ok := strings.Cut(fix, ": ")
	if !ok {
		f.t.Fatalf("fix names no machine: %q", fix)
	}
	_, then, _ := strings.Cut(command, "# then paste what it prints on ")
	machine := f.rx
	if name, is := strings.CutPrefix(on, "on lab"); is {
		machine = f.Host("lab" + name)
	} else if on != "on the receiver" {
		f.t.Fatalf("fix names no machine: %q", fix)
	}
	out := machine.Run(command)
	if then != "" {
		name, _, _ := strings.Cut(then, ";")
		f.Host(name).Run("cd /root\n" + out)
	}
}

// writeTemp puts content into a file of its own on this machine.
func writeTemp(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
