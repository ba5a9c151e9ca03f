package orchestrate

import (
	"cmp"
	"fmt"
	"slices"

	"cis490/internal/episode"
	"cis490/internal/experiment"
)

// maxEvents bounds the events of one episode. Further events are dropped, and meta.json
// records it.
const maxEvents = 10_000

// Sources of events, beside the collectors.
const (
	sourceSelf     = "orchestrate"
	sourceWorkload = "workload"
)

// eventBudget is the orchestrator's event at the end of a phase's budget.
const eventBudget = "budget"

// timeline turns events into labels. It is a pure function of events and their times, so
// the same events always give the same labels. Schedule times are only budgets: the clock
// can end or fail a recording, but never begins a phase.
type timeline struct {
	profile experiment.Profile
	phase   int // index of the current phase
	begun   stamp
	events  []episode.Event
	labels  []episode.Label
	dropped int
	over    bool
	reason  string // why it failed, or ""
}

// newTimeline begins the first phase.
func newTimeline(p experiment.Profile, at stamp) *timeline {
	t := &timeline{profile: p}
	t.add(at, sourceSelf, experiment.EventStart, "", episode.UseBegan)
	t.begin(0, at, experiment.EventStart)
	return t
}

// deadline returns the end of the current phase's budget.
func (t *timeline) deadline() int64 {
	return t.begun.mono + int64(t.profile.Phases[t.phase].Budget)
}

// note records an event that is not the workload's, such as a collector's.
func (t *timeline) note(at stamp, source, event, detail string) {
	t.add(at, source, event, detail, "")
}

// workload handles an event of the workload.
func (t *timeline) workload(at stamp, event, detail string) {
	t.tick(at) // an event after the budget is late, in whichever order they arrive
	t.add(at, sourceWorkload, event, detail, t.judge(at, event, detail))
}

func (t *timeline) judge(at stamp, event, detail string) episode.Use {
	last := t.phase == len(t.profile.Phases)-1
	own := slices.IndexFunc(t.profile.Phases, func(p experiment.Phase) bool { return p.Event == event })
	switch {
	case t.over:
		return episode.UseLate
	case event == experiment.EventFailed:
		t.fail(at, event, "the workload reported failed: "+detail)
		return episode.UseFailed
	case event == experiment.EventEnd && last:
		t.over = true
		return episode.UseEnded
	case event == experiment.EventEnd:
		return episode.UseEarly
	case own < 0:
		return episode.UseNote
	case own == t.phase:
		return episode.UseDoubled
	case own < t.phase:
		return episode.UseLate
	case own > t.phase+1:
		return episode.UseEarly
	}
	t.begin(own, at, event)
	return episode.UseBegan
}

// exit handles the end of the command. In the last phase, with status 0, it ends the
// recording; otherwise it fails the recording.
func (t *timeline) exit(at stamp, how string, clean bool) {
	t.tick(at)
	use := episode.UseLate
	if !t.over {
		if t.phase == len(t.profile.Phases)-1 && clean {
			t.over, use = true, episode.UseEnded
		} else {
			t.fail(at, experiment.EventExit, fmt.Sprintf("the command ended (%s) in phase %q", how, t.profile.Phases[t.phase].Name))
			use = episode.UseFailed
		}
	}
	t.add(at, sourceSelf, experiment.EventExit, how, use)
}

// tick handles the passing of time.
func (t *timeline) tick(at stamp) {
	late := at.mono - t.deadline()
	if t.over || late < 0 {
		return
	}
	at = at.back(late)
	p := t.profile.Phases[t.phase]
	if t.phase < len(t.profile.Phases)-1 {
		next := t.profile.Phases[t.phase+1].Event
		t.fail(at, eventBudget, fmt.Sprintf("no event %q within the %s of phase %q", next, p.Budget.D(), p.Name))
		t.add(at, sourceSelf, eventBudget, t.reason, episode.UseFailed)
		return
	}
	if t.profile.Stop == experiment.StopBudget {
		t.over = true
		t.add(at, sourceSelf, eventBudget, "", episode.UseEnded)
		return
	}
	t.fail(at, eventBudget, fmt.Sprintf("the command did not end within the %s of its last phase %q", p.Budget.D(), p.Name))
	t.add(at, sourceSelf, eventBudget, t.reason, episode.UseFailed)
}

func (t *timeline) begin(phase int, at stamp, event string) {
	t.phase, t.begun = phase, at
	p := t.profile.Phases[phase]
	t.label(at, p.Name, p.Class, event)
}

func (t *timeline) fail(at stamp, event, reason string) {
	t.over, t.reason = true, reason
	t.label(at, experiment.LabelFailed, "", event)
}

func (t *timeline) label(at stamp, phase, class, event string) {
	t.labels = append(t.labels, episode.Label{Wall: at.wall, Mono: at.mono, Phase: phase, Class: class, Event: event})
}

func (t *timeline) add(at stamp, source, event, detail string, use episode.Use) {
	// Events that decide a label are always kept; only others are dropped.
	decides := use == episode.UseBegan || use == episode.UseEnded || use == episode.UseFailed
	if len(t.events) >= maxEvents && !decides && source == sourceWorkload {
		t.dropped++
		return
	}
	t.events = append(t.events, episode.Event{Wall: at.wall, Mono: at.mono, Source: source, Event: event, Detail: detail, Use: use})
}

// verdict returns how the recording ended, and why if it failed.
func (t *timeline) verdict() (episode.Verdict, string) {
	if t.reason != "" {
		return episode.Failed, t.reason
	}
	return episode.Accepted, ""
}

// sorted returns the events by time, because concurrent sources may deliver them out of
// order.
func (t *timeline) sorted() []episode.Event {
	slices.SortStableFunc(t.events, func(a, b episode.Event) int { return cmp.Compare(a.Mono, b.Mono) })
	return t.events
}
