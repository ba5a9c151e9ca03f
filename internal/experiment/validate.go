package experiment

import (
	"fmt"
	"time"

	"cis490/internal/config"
)

// Bounds of a profile: an episode lasts at most maxEpisode, and no source is sampled more
// than maxHz times a second, because the sampling itself would show in the data.
const (
	maxEpisode = 24 * time.Hour
	maxGrace   = time.Minute
	minHz      = 0.1
	maxHz      = 100
	maxWeight  = 1_000_000
)

// faults collects errors, each an *config.Error with the dotted key.
type faults struct{ all []error }

func (f *faults) add(key, format string, args ...any) {
	f.all = append(f.all, &config.Error{Key: key, Why: fmt.Sprintf(format, args...)})
}

func (f *faults) name(key, s string) {
	if !ValidName(s) {
		f.add(key, "want a letter a-z, then at most 63 of a-z, 0-9, '_', '.', '-'; got %q", s)
	}
}

// class checks a class, which may be absent.
func (f *faults) class(key, s string) {
	if s != "" {
		f.name(key, s)
	}
}

func validate(e Experiment) []error {
	var f faults
	if e.Schema != Schema {
		f.add("schema", "want %d, got %d", Schema, e.Schema)
	}
	f.name("name", e.Name)
	if e.MaxSlots < 0 {
		f.add("max_slots", "want 0 (no ceiling) or more, got %d", e.MaxSlots)
	}
	if len(e.Profiles) == 0 {
		f.add("profile", "want at least one [[profile]]")
	}
	names := map[string]bool{}
	for i, p := range e.Profiles {
		at := fmt.Sprintf("profile[%d].", i)
		f.name(at+"name", p.Name)
		if names[p.Name] {
			f.add(at+"name", "duplicate profile name %q", p.Name)
		}
		names[p.Name] = true
		f.profile(at, p)
	}
	return f.all
}

func (f *faults) profile(at string, p Profile) {
	if p.Weight < 1 || p.Weight > maxWeight {
		f.add(at+"weight", "want 1 to %d, got %d", maxWeight, p.Weight)
	}
	switch {
	case p.Machine != nil && len(p.Command) > 0:
		f.add(at+"command", "want a command or a machine, got both")
	case p.Machine != nil:
		f.machine(at+"machine.", *p.Machine)
	case len(p.Command) == 0 || p.Command[0] == "":
		f.add(at+"command", `want a program and its arguments, such as ["/bin/sh", "-c", "…"], or a [profile.machine]`)
	}
	f.class(at+"class", p.Class)
	if p.Stop != "" && p.Stop != StopExit && p.Stop != StopBudget {
		f.add(at+"stop", "want %q or %q, got %q", StopExit, StopBudget, p.Stop)
	}
	if p.Grace.D() > maxGrace {
		f.add(at+"grace", "want at most %s", maxGrace)
	}
	f.rate(at+"collectors.proc_hz", p.Collectors.ProcHz)
	f.rate(at+"collectors.pressure_hz", p.Collectors.PressureHz)
	f.rate(at+"collectors.qmp_hz", p.Collectors.QMPHz)
	if p.Machine == nil && p.Collectors.QMPHz != 0 {
		f.add(at+"collectors.qmp_hz", "only a [profile.machine] has QMP")
	}
	if len(p.Phases) == 0 {
		f.add(at+"phase", "want at least one [[profile.phase]]")
	}
	if p.Budget() > maxEpisode {
		f.add(at+"phase", "the budgets add up to more than %s", maxEpisode)
	}
	begins := map[string]string{}
	for i, ph := range p.Phases {
		f.phase(fmt.Sprintf("%sphase[%d].", at, i), i, ph, begins)
	}
}

func (f *faults) rate(key string, hz float64) {
	if hz != 0 && (hz < minHz || hz > maxHz) {
		f.add(key, "want %g to %d times a second, got %g", minHz, maxHz, hz)
	}
}

func (f *faults) phase(at string, i int, ph Phase, begins map[string]string) {
	f.name(at+"name", ph.Name)
	f.class(at+"class", ph.Class)
	if ph.Name == LabelFailed {
		f.add(at+"name", "%q is reserved for failed episodes", ph.Name)
	}
	if ph.Budget <= 0 {
		f.add(at+"budget", `want the longest duration of the phase, such as "30s"`)
	}
	switch {
	case i == 0 && ph.Event != EventStart:
		f.add(at+"event", "the first phase begins at %q, got %q", EventStart, ph.Event)
	case i > 0 && (ph.Event == EventStart || ph.Event == EventEnd || ph.Event == EventFailed || ph.Event == EventExit):
		f.add(at+"event", "%q is reserved; choose another name", ph.Event)
	case begins[ph.Event] != "":
		f.add(at+"event", "%q begins phase %q already", ph.Event, begins[ph.Event])
	default:
		f.name(at+"event", ph.Event)
	}
	begins[ph.Event] = ph.Name
}
