//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/e2e/lab"
)

// settleTime is how long no alert may come before a fault counts as healed: each host has
// pinged, and fleet-check has run afterwards.
const settleTime = 2 * checkEvery

// dated is an open alert of a run of fleet-check, or a row of alerts.jsonl.
type dated struct {
	alert
	At    time.Time `json:"at"`
	Since time.Time `json:"since"`
}

func (a dated) what() string { return a.Symptom + "/" + a.Code }

// observe reads the last result of fleet-check and the receiver's new rows.
func (s *soak) observe() {
	s.t.Helper()
	if s.off[s.rx] {
		return
	}
	var last struct {
		At   time.Time
		Open []dated
	}
	if err := json.Unmarshal([]byte(s.rx.Read("/var/lib/cis490/fleet-check.json")), &last); err != nil {
		s.t.Fatalf("fleet-check.json: %v", err)
	}
	if now := time.Now(); !last.At.Equal(s.ran) {
		s.ran, s.checked = last.At, now
		open := map[*hit]bool{}
		for _, a := range last.Open {
			if h := s.explains(a, now); h != nil {
				open[h] = true
				if key := a.Host + " " + a.what(); h.alerted[key].IsZero() {
					h.alerted[key] = now
				}
			}
		}
		for _, h := range s.active() {
			switch {
			case open[h]:
				h.open, h.calm = now, time.Time{}
			case h.calm.IsZero():
				h.calm = now
			}
		}
	}
	s.readIndex()
	s.readAlerts()
}

// added returns the whole rows that a ledger of the receiver has had since the last call.
func (s *soak) added(path string) string {
	rows := s.rx.Try(fmt.Sprintf("tail -c +%d %s", s.read[path]+1, path)).Out
	rows = rows[:strings.LastIndexByte(rows, '\n')+1]
	s.read[path] += len(rows)
	return rows
}

// readIndex stores when the receiver accepted episodes of each host. It uses this machine's
// clock, because a wrong clock of the receiver is one of the faults.
func (s *soak) readIndex() {
	for line := range strings.Lines(s.added("/var/lib/cis490/index.jsonl")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("index.jsonl: %q: %v", line, err)
		}
		s.taken[r.Host] = append(s.taken[r.Host], time.Now())
	}
}

// readAlerts checks that a fault explains each firing row.
func (s *soak) readAlerts() {
	for line := range strings.Lines(s.added("/var/lib/cis490/alerts.jsonl")) {
		var a dated
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			s.t.Fatalf("alerts.jsonl: %q: %v", line, err)
		}
		if a.Symptom == "" {
			continue // a row that opens an hour
		}
		what := a.Host + " " + a.Symptom
		s.last[what] = a.State
		if a.State == "firing" {
			s.explains(a, time.Now())
			s.fired[what] = time.Now()
		}
	}
}

// explains returns the fault that explains an alert. An alert without such a fault fails
// the test; so does one without a fix, and one that notifies although the host has left
// cleanly.
func (s *soak) explains(a dated, at time.Time) *hit {
	for _, h := range s.hits {
		if at.Before(h.struck) || !h.closed.IsZero() && at.After(h.closed) {
			continue
		}
		right := append(slices.Clone(h.must), h.may...)
		if a.Host == h.machine() && slices.Contains(right, a.what()) || a.Host != h.machine() && slices.Contains(right, "all:"+a.what()) {
			if a.Fix == "" || a.Quiet != (a.Code == "left") {
				s.t.Errorf("%s: alert without a fix, or with a wrong quiet: %+v", h.name, a)
			}
			return h
		}
	}
	if once := fmt.Sprint(a.Host, a.what(), a.Since); !s.judged[once] {
		s.judged[once] = true
		s.t.Errorf("false alert: %s %s %s: %s; active faults:%s", at.Format(time.TimeOnly), a.Host, a.what(), a.Reason, s.underWay())
	}
	return nil
}

func (s *soak) underWay() (names string) {
	for _, h := range s.active() {
		names += fmt.Sprintf(" %s at %s since %s,", h.name, h.at.Name, h.struck.Format(time.TimeOnly))
	}
	return names
}

// machine returns the alerts' name of the machine.
func (h *hit) machine() string {
	if h.receiver {
		return "@receiver"
	}
	return h.at.Name
}

// missing returns the required alerts that have not come.
func (s *soak) missing(h *hit) (missing []string) {
	for _, want := range h.must {
		machines := []string{h.machine()}
		what, each := strings.CutPrefix(want, "all:")
		if each {
			machines = machines[:0]
			for _, m := range s.hosts {
				machines = append(machines, m.Name)
			}
		}
		for _, m := range machines {
			if h.alerted[m+" "+what].IsZero() {
				missing = append(missing, m+" "+what)
			}
		}
	}
	return missing
}

// healedSince returns since when a fault is healed, and whether it is. A fault is healed
// when its mended command works, each touched host has shipped two episodes since, and no
// alert of the fault is open.
func (s *soak) healedSince(h *hit) (since time.Time, ok bool) {
	if h.mended != "" && h.mendedAt.IsZero() {
		if h.at.Try(h.mended).Code != 0 {
			return since, false
		}
		h.mendedAt = time.Now()
	}
	since = latest(h.mendedAt, h.ended)
	touched := []*lab.Host{h.at}
	if h.receiver {
		touched = s.untouched()
	}
	for _, m := range touched {
		taken := s.taken[m.Name]
		i, _ := slices.BinarySearchFunc(taken, h.ended, time.Time.Compare)
		if len(taken) < i+2 {
			return since, false
		}
		since = latest(since, taken[i+1])
	}
	if !h.open.IsZero() {
		if h.calm.IsZero() {
			return since, false
		}
		since = latest(since, h.calm)
	}
	return since, h.calm.After(h.open) && s.checked.Sub(since) > settleTime
}

// untouched returns the hosts without a fault of their own.
func (s *soak) untouched() []*lab.Host {
	return slices.DeleteFunc(slices.Clone(s.hosts), func(m *lab.Host) bool {
		return slices.ContainsFunc(s.active(), func(h *hit) bool { return h.at == m })
	})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// checkAlerts checks that each open alert had a firing row, and that all are resolved.
func (s *soak) checkAlerts() {
	s.observe()
	for _, h := range s.hits {
		for key, at := range h.alerted {
			host, what, _ := strings.Cut(key, " ")
			symptom, _, _ := strings.Cut(what, "/")
			if fired := s.fired[host+" "+symptom]; fired.Before(at.Add(-time.Hour)) {
				s.t.Errorf("%s was open at %s, without a firing row in that hour", key, at)
			}
		}
	}
	for what, state := range s.last {
		if state != "resolved" {
			s.t.Errorf("the last row of %s has state %q", what, state)
		}
	}
}
