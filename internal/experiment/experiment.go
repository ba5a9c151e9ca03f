// Package experiment reads experiment.toml, which defines what a lab host records.
//
// A parsed Experiment can be recorded: every default is filled in and every name is valid.
// Parse reports all errors of the file at once, with their positions. It rejects unknown
// keys, because a misspelt budget would record wrong labels for months. It checks only the
// content: a missing command shows up when it is run.
package experiment

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// Schema is the version of experiment.toml that this package reads.
const Schema = 1

// Event and label names with a special meaning.
const (
	EventStart  = "start"  // the command has started; begins the first phase
	EventEnd    = "end"    // a workload that does not exit ends its last phase
	EventFailed = "failed" // a workload gives up
	EventExit   = "exit"   // the command ended
	LabelFailed = "failed" // last phase of an episode whose labels cannot be trusted
)

// The classes that every reader knows. A profile may have others, such as a family's name.
const (
	ClassBenign    = "benign"
	ClassMalicious = "malicious"
)

// How the last phase of a profile ends.
const (
	StopExit   = "exit"   // the command exits 0 or reports end, within the budget
	StopBudget = "budget" // at the end of its budget, for commands that never end
)

// The defaults of a profile.
const (
	DefaultProcHz     = 10
	DefaultPressureHz = 2
	DefaultGrace      = 5 * time.Second
)

// Experiment is experiment.toml.
type Experiment struct {
	Schema   int       `toml:"schema"`
	Name     string    `toml:"name"`      // for people; the digest identifies the experiment
	MaxSlots int       `toml:"max_slots"` // ceiling for every host; 0: none
	Profiles []Profile `toml:"profile"`

	// Digest is the sha256 of the file, as meta.json has it.
	Digest ident.Digest `toml:"-"`
	// Content is the file, which every episode contains.
	Content []byte `toml:"-"`
}

// Profile is a recorded behaviour.
type Profile struct {
	Name       string          `toml:"name"`
	Class      string          `toml:"class"`   // of its phases; "": none
	Weight     int             `toml:"weight"`  // share of the episodes
	Command    []string        `toml:"command"` // argv; runs in its own empty folder
	Machine    *Machine        `toml:"machine"` // a virtual machine; nil: Command
	Stop       string          `toml:"stop"`    // StopExit or StopBudget
	Grace      config.Duration `toml:"grace"`   // between SIGTERM and SIGKILL
	Collectors Collectors      `toml:"collectors"`
	Phases     []Phase         `toml:"phase"`
}

// Collectors sets the sampling rates.
type Collectors struct {
	ProcHz     float64 `toml:"proc_hz"`     // the process tree of the command
	PressureHz float64 `toml:"pressure_hz"` // stalls of the whole machine
	QMPHz      float64 `toml:"qmp_hz"`      // QEMU's statistics of its machine
}

// Phase is a part of a profile with one label. It begins at the time of its event and lasts
// at most its budget, within which the next phase's event must arrive. No phase begins
// because of a clock.
type Phase struct {
	Name   string          `toml:"name"`
	Event  string          `toml:"event"`
	Budget config.Duration `toml:"budget"`
	Class  string          `toml:"class"` // "": the profile's
}

// nameRE is the grammar of profile, phase and event names.
var nameRE = regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`)

// ValidName reports whether s may name a profile, a phase or an event.
func ValidName(s string) bool { return len(s) <= 64 && nameRE.MatchString(s) }

// Load reads an experiment from a file.
func Load(path string) (Experiment, error) {
	b, err := disk.ReadFile(disk.OS{}, path, disk.Small)
	if err != nil {
		return Experiment{}, fault.Exit(fault.Fix(fmt.Errorf("read experiment: %w", err),
			"set orchestrate.experiment in "+config.LabHostPath+", or remove it to take the release's own"), fault.Config)
	}
	return Parse(path, b)
}

// Parse reads an experiment; name is for messages. Its error has exit code 78 and the
// file:line:col of every problem.
func Parse(name string, content []byte) (Experiment, error) {
	e, unknown, err := config.Parse(name, content, Experiment{}, validate)
	for _, u := range unknown {
		err = errors.Join(err, u)
	}
	if err != nil {
		return Experiment{}, fault.Exit(fault.Fix(err,
			"edit "+name+" (docs/experiments.md), then: sudo systemctl restart cis490-orchestrator"), fault.Config)
	}
	sum := sha256.Sum256(content)
	e.Digest, e.Content = ident.Digest(hex.EncodeToString(sum[:])), bytes.Clone(content)
	for i := range e.Profiles {
		e.Profiles[i].fill()
	}
	return e, nil
}

// Profile returns the profile with the given name.
func (e Experiment) Profile(name string) (Profile, bool) {
	for _, p := range e.Profiles {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}

// Budget returns the longest duration of an episode, without the grace period of its
// processes.
func (p Profile) Budget() time.Duration {
	var sum time.Duration
	for _, ph := range p.Phases {
		sum += ph.Budget.D()
	}
	return sum
}

func (p *Profile) fill() {
	for i := range p.Phases {
		p.Phases[i].Class = cmp.Or(p.Phases[i].Class, p.Class)
	}
	if p.Stop == "" {
		p.Stop = StopExit
	}
	if p.Grace == 0 {
		p.Grace = config.Duration(DefaultGrace)
	}
	if p.Collectors.ProcHz == 0 {
		p.Collectors.ProcHz = DefaultProcHz
	}
	if p.Collectors.PressureHz == 0 {
		p.Collectors.PressureHz = DefaultPressureHz
	}
	if p.Machine != nil {
		p.Machine.fill()
		if p.Collectors.QMPHz == 0 {
			p.Collectors.QMPHz = DefaultQMPHz
		}
	}
}
