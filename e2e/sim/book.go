package sim

import (
	"fmt"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// book knows what is true, and notes what the programs do about it.
type book struct {
	w  *World
	mu sync.Mutex

	episodes map[ident.EpisodeID]*fact
	runs     int
	judged   time.Time // last run of fleet-check that judged
	wrong    []Violation
	seen     map[string]bool // violations that were noted
	checked  int
	messages int
}

// fact is an episode that was recorded whole.
type fact struct {
	host ident.Host
	body string
	at   time.Time
}

// Violation is an invariant that did not hold.
type Violation struct {
	Rule string        // stable name
	At   time.Duration // since the run began
	Text string
}

// Report is what a run came to.
type Report struct {
	Wrong    []Violation
	Episodes int
	Runs     int // of fleet-check
	Messages int
	Checked  int // invariants
}

func newBook(w *World) *book {
	return &book{w: w, episodes: map[ident.EpisodeID]*fact{}, seen: map[string]bool{}}
}

func (b *book) recorded(h ident.Host, id ident.EpisodeID, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.episodes[id] = &fact{h, body, time.Now()}
}

func (b *book) said(a fleet.Alert) {
	b.w.trace("receiver", "ALERT %s %s %s: %s (%s)", a.Host, a.Symptom, a.State, a.Detail, a.Code)
}

func (b *book) ran(r fleet.Result, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs++
	if err == nil && r.Skipped == "" {
		b.judged = time.Now()
	}
}

func (b *book) told(m notify.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
}

// breaks notes that an invariant does not hold; what says the same is noted once.
func (b *book) breaks(rule, about, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[rule+about] {
		return
	}
	b.seen[rule+about] = true
	v := Violation{rule, time.Since(b.w.began), fmt.Sprintf(format, args...)}
	b.wrong = append(b.wrong, v)
	go b.w.trace("", "VIOLATION %s: %s", v.Rule, v.Text)
}

func (b *book) report() *Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Report{b.wrong, len(b.episodes), b.runs, b.messages, b.checked}
}

func (b *book) watch() {}
func (b *book) final() {}
