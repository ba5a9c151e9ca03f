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

// settled is how long nothing may come after a fault has healed before that is
// believed: each host has pinged, and fleet-check has run on it.
const settled = 2 * checkEvery

// dated is an alert of a run, or a row.
type dated struct {
	alert
	At    time.Time `json:"at"`
	Since time.Time `json:"since"`
}

func (a dated) what() string { return a.Symptom + "/" + a.Code }

// look takes in what fleet-check found last, and what the receiver has taken.
func (s *soak) look() {
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

// added returns the whole rows that a ledger of the receiver's has got since.
func (s *soak) added(path string) string {
	rows := s.rx.Try(fmt.Sprintf("tail -c +%d %s", s.read[path]+1, path)).Out
	rows = rows[:strings.LastIndexByte(rows, '\n')+1]
	s.read[path] += len(rows)
	return rows
}

// readIndex notes when the receiver took which host's episodes. The rows themselves have
// the time of the receiver's clock, which is one of the faults.
func (s *soak) readIndex() {
	for line := range strings.Lines(s.added("/var/lib/cis490/index.jsonl")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("index.jsonl: %q: %v", line, err)
		}
		s.taken[r.Host] = append(s.taken[r.Host], time.Now())
	}
}

// readAlerts: each row that fires is of a fault.
func (s *soak) readAlerts() {
	for line := range strings.Lines(s.added("/var/lib/cis490/alerts.jsonl")) {
		var a dated
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			s.t.Fatalf("alerts.jsonl: %q: %v", line, err)
		}
		if a.Symptom == "" {
			continue // it opens an hour
		}
		what := a.Host + " " + a.Symptom
		s.last[what] = a.State
		if a.State == "firing" {
			s.explains(a, time.Now())
			s.fired[what] = time.Now()
		}
	}
}

// explains returns the fault that an alert is right for. One that no fault explains
// is false, and so is one without a fix, or of which somebody is told though the
// host has left cleanly.
func (s *soak) explains(a dated, at time.Time) *hit {
	for _, h := range s.hits {
		if at.Before(h.struck) || !h.closed.IsZero() && at.After(h.closed) {
			continue
		}
		right := append(slices.Clone(h.must), h.may...)
		if a.Host == h.machine() && slices.Contains(right, a.what()) || a.Host != h.machine() && slices.Contains(right, "all:"+a.what()) {
			if a.Fix == "" || a.Quiet != (a.Code == "left") {
				s.t.Errorf("%s: the alert is not as it should be: %+v", h.name, a)
			}
			return h
		}
	}
	if once := fmt.Sprint(a.Host, a.what(), a.Since); !s.judged[once] {
		s.judged[once] = true
		s.t.Errorf("false alert: %s %s %s: %s; under way:%s", at.Format(time.TimeOnly), a.Host, a.what(), a.Reason, s.underWay())
	}
	return nil
}

func (s *soak) underWay() (names string) {
	for _, h := range s.active() {
		names += fmt.Sprintf(" %s at %s since %s,", h.name, h.at.Name, h.struck.Format(time.TimeOnly))
	}
	return names
}

// machine is how alerts name the machine that is struck.
func (h *hit) machine() string {
	if h.receiver {
		return "@receiver"
	}
	return h.at.Name
}

// missing returns the alerts that have to come and have not.
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

// well tells whether, and since when, a fault has healed: what it broke is whole,
// each host that it touched has shipped two episodes since, and no alert of it is
// open any more.
func (s *soak) well(h *hit) (since time.Time, ok bool) {
	if h.mended != "" && h.mendedAt.IsZero() {
		if h.at.Try(h.mended).Code != 0 {
			return since, false
		}
		h.mendedAt = time.Now()
	}
	since = later(h.mendedAt, h.ended)
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
		since = later(since, taken[i+1])
	}
	if !h.open.IsZero() {
		if h.calm.IsZero() {
			return since, false
		}
		since = later(since, h.calm)
	}
	return since, h.calm.After(h.open) && s.checked.Sub(since) > settled
}

// untouched are the hosts that no fault of their own keeps from shipping.
func (s *soak) untouched() []*lab.Host {
	return slices.DeleteFunc(slices.Clone(s.hosts), func(m *lab.Host) bool {
		return slices.ContainsFunc(s.active(), func(h *hit) bool { return h.at == m })
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// alertsWereRight: each row was of a fault, each alert that had to come has one,
// and nothing is open.
func (s *soak) alertsWereRight() {
	s.look()
	for _, h := range s.hits {
		for key, at := range h.alerted {
			host, what, _ := strings.Cut(key, " ")
			symptom, _, _ := strings.Cut(what, "/")
			if fired := s.fired[host+" "+symptom]; fired.Before(at.Add(-time.Hour)) {
				s.t.Errorf("%s was open at %s, and has no row of that hour", key, at)
			}
		}
	}
	for what, state := range s.last {
		if state != "resolved" {
			s.t.Errorf("the last row of %s says %s", what, state)
		}
	}
}
