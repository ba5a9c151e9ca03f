package sim

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// book records the true state of the world, and what the programs report.
type book struct {
	w  *World
	mu sync.Mutex

	episodes map[ident.EpisodeID]*fact
	runs     int
	judged   time.Time               // last complete run of fleet-check
	open     map[fleet.Key]open      // firing alerts, by that run
	rows     map[string]time.Time    // when the last row came, by alert, state and hour
	people   map[fleet.Key]bool      // alerts that people were notified of, and not of their end
	hushed   map[fleet.Key]time.Time // open alerts that a person muted, and until when
	heard    map[string]time.Time    // last notification or journal line about a host
	wrong    []Violation
	seen     map[string]bool // recorded violations
	checked  int
	messages int
	states   map[[2]string]int
}

type open struct {
	fleet.Alert
	at time.Time
}

// fact is an episode that was recorded completely.
type fact struct {
	host   ident.Host
	body   string
	at     time.Time
	commit ident.Commit
	// removed is when its host removed its copy; 0: never.
	removed time.Duration
}

// Violation is a broken rule.
type Violation struct {
	Rule string        // stable name
	At   time.Duration // since the run began
	Text string
}

// Report is the result of a run.
type Report struct {
	Wrong    []Violation
	Episodes int
	Runs     int               // of fleet-check
	Messages int               // that people received
	Checked  int               // invariants
	States   map[[2]string]int // how often a kind of fault began in a state
}

func newBook(w *World) *book {
	return &book{
		w: w, episodes: map[ident.EpisodeID]*fact{}, seen: map[string]bool{}, open: map[fleet.Key]open{}, rows: map[string]time.Time{},
		people: map[fleet.Key]bool{}, hushed: map[fleet.Key]time.Time{}, heard: map[string]time.Time{}, states: map[[2]string]int{},
	}
}

func (b *book) recorded(id ident.EpisodeID, f fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.episodes[id] = &f
}

// said records a line of the journal.
func (b *book) said(a fleet.Alert) {
	b.w.trace("receiver", "ALERT %s %s %s: %s (%s)", a.Host, a.Symptom, a.State, a.Detail, a.Code)
	b.w.quiet(a)
	b.mu.Lock()
	b.heard[a.Host] = time.Now()
	key := fmt.Sprintf("%s %s %s in the hour %s", a.Host, a.Symptom, a.State, a.Hour.UTC().Format(time.RFC3339))
	last, again := b.rows[key]
	again = again && time.Since(last) < 2*time.Hour // later: the clock was set back to that hour
	b.rows[key] = time.Now()
	b.mu.Unlock()
	if again && !b.w.recently(time.Hour, repeats) {
		b.breaks("one row per symptom and hour", key, "two rows: %s", key)
	}
}

// repeats reports whether a fault may interrupt a run between its journal line and the
// record of that line, or remove the record.
func repeats(f Fault) bool {
	return slices.Contains([]string{
		"rx-power", "rx-nobattery", "rx-unmounted", "rx-restore", "rx-rotate", "rx-flaky", "rx-dead", "rx-clock", "rx-spot", "rx-root",
	}, f.Kind)
}

// ran records a run of fleet-check.
func (b *book) ran(r fleet.Result) {
	b.mu.Lock()
	b.runs++
	b.mu.Unlock()
	if r.At.IsZero() {
		return
	}
	now := time.Now()
	next := map[fleet.Key]open{}
	b.mu.Lock()
	b.judged = now
	for _, a := range r.Open {
		next[a.Key()] = open{a, now}
		if had, ok := b.open[a.Key()]; ok {
			next[a.Key()] = open{a, had.at}
		}
	}
	b.open = next
	maps.DeleteFunc(b.hushed, func(k fleet.Key, _ time.Time) bool { _, open := next[k]; return !open })
	b.mu.Unlock()
	for _, a := range r.Open {
		b.w.justify(a)
	}
}

// notified records a message that people received.
func (b *book) notified(m notify.Message) {
	b.watchHushed(m)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	for _, a := range m.Alerts {
		b.heard[a.Host] = time.Now()
		if b.people[a.Key()] = m.State == fleet.Firing; m.State != fleet.Firing {
			delete(b.people, a.Key())
		}
	}
}

// breaks records that a rule is broken, once for each subject.
func (b *book) breaks(rule, about, format string, args ...any) {
	b.mu.Lock()
	known := b.seen[rule+about]
	b.seen[rule+about] = true
	v := Violation{rule, time.Since(b.w.began), fmt.Sprintf(format, args...)}
	if !known {
		b.wrong = append(b.wrong, v)
	}
	b.mu.Unlock()
	if !known {
		b.w.trace("", "VIOLATION %s: %s", v.Rule, v.Text)
	}
}

func (b *book) report() *Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Report{b.wrong, len(b.episodes), b.runs, b.messages, b.checked, b.states}
}
