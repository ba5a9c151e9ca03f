// Package fleet finds the sick hosts: facts about them, which it only reads,
// go through pure detectors and become symptoms, and these become rows of
// alerts.jsonl.
//
// Every run judges anew from facts, so a crash at any point loses no
// transition: what was not written is written by the next run. A row is
// durable or not there at all. No fact counts as later than now, and none waits for
// a time that a wrong clock gave it. The package refuses to take a fix from a host's
// text, and to write as a user who does not own the data.
package fleet

import (
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// Facts are all that is known at the time of a run. Detectors look at nothing
// else.
type Facts struct {
	Now      time.Time
	Limits   Limits
	Hosts    map[ident.Host]*Host
	Away     []contacts.Span // when the receiver was not ready to take anything
	Receiver []check.Row     // its own checks
	Held     map[Key]Entry
	Seen     map[Key]time.Time // since when a finding has been there, also before it counts
	Known    func(id string) (check.Check, bool)
	Unread   bool  // facts of all hosts are missing, as a file could not be read
	Lost     bool  // the data folder cannot be used at all, so that the receiver's checks of it mean nothing
	Broken   error // why the data folder could not be read, or not be written
	contacts contacts.Contacts
	skewed   bool          // it is the receiver's clock that is wrong, and not its hosts'
	overtook time.Duration // by how much that clock jumped past the certificates of most hosts
	neared   time.Duration // by how much it jumped close to their end
}

// Limits are the thresholds.
type Limits struct {
	SilentAfter   time.Duration
	Lookback      time.Duration
	NeverReported time.Duration
}

// LimitsOf returns the thresholds that a config sets.
func LimitsOf(c config.Receiver) Limits {
	return Limits{SilentAfter: c.Fleet.SilentAfter.D(), Lookback: c.Fleet.Lookback.D(), NeverReported: c.Fleet.NeverReported.D()}
}

// The windows that follow SilentAfter, because all of them are about how often a host
// pings; in brackets what they are by default.

// Fresh is how old a ping may be to speak for now [15 min: three are missed].
func (l Limits) Fresh() time.Duration { return l.SilentAfter / 2 }

// Together is how long hosts with one cause are collected for one notification [10 min].
func (l Limits) Together() time.Duration { return l.SilentAfter / 3 }

// steady is how long a finding that may pass by itself has to last before it counts
// [4 min, so that two runs must see it].
func (l Limits) steady() time.Duration { return l.SilentAfter * 2 / 15 }

// trend is the time over which pings are compared with each other [1 h].
func (l Limits) trend() time.Duration { return 2 * l.SilentAfter }

// Host is what is known of one host. A zero time is "never, as far as is known".
type Host struct {
	Roster      *roster.Host // nil: the roster does not have it
	Accepted    time.Time    // last time an episode was taken
	Stored      bool         // episodes of it are kept
	Stamped     time.Time    // last taken with a commit
	Bare        time.Time    // last PUT without one
	Refused     Refusal      // the last PUT that was refused for good
	Since       time.Time    // of the first such PUT after Accepted
	Failed      time.Time    // the last PUT that the receiver could not take through its own fault
	Contact     Contact
	AuthFailure AuthFailure // the last contact that was refused
	Snapshot    Snapshot
	Boots       []contacts.Boot // the last few boot ids that it was heard under
	Growth      Growth
	Version     string       // that it runs, as it says
	Offered     string       // that it should run; empty: none is offered
	Update      *wire.Update // how its updates stand, as it says
	Unread      bool         // facts of this host are missing
}

// Refusal is a PUT that was answered 4xx; 408 and 429 are none.
type Refusal struct {
	At     time.Time
	Kind   string
	Status int
	Commit string
	Detail string
	// Blocked tells that the gate refuses that commit on purpose, as it is now.
	Blocked bool
}

// Contact is the last ping, and when the host was heard at all.
type Contact struct {
	At      time.Time // of the ping
	Any     time.Time // of any accepted contact
	Leaving bool
	Back    time.Time     // first heard again after it had left
	Gated   string        // why the gate refuses the commit that it runs; empty: it does not
	Blocked bool          // it does so on purpose
	Offset  time.Duration // its clock minus the receiver's
	Waiting int
	Held    int
	Failing []string // ids of failing hard checks
}

// AuthFailure is a contact that was refused. Only one whose chain is valid may explain
// a host's silence; any other is a claim.
type AuthFailure struct {
	At     time.Time
	Kind   string
	Detail string
	Valid  bool
}

// Snapshot is the last doctor run that the host delivered.
type Snapshot struct {
	At      time.Time
	Failing []string
}

// Growth is how a host's outbox was when it was last at its smallest.
type Growth struct {
	Since   time.Time `json:"since"`
	Waiting int       `json:"waiting"`
}

// Finding is a symptom that is there now.
type Finding struct {
	Host    string
	Symptom string
	Since   time.Time // zero: since it was first found
	Detail  string
	Reason  Reason
	Fix     string // set by Judge
	Quiet   bool   // a row is written, nobody is told
	// Silenced is Quiet by someone's wish.
	Silenced bool
}

// Reason is why, as far as the facts show it.
type Reason struct {
	Code  string // stable: "certificate-expired", "gated"…
	Text  string
	Check string // the check whose fix it is; empty for none
	Fix   string // where no check has it
}

// Key returns what the finding is about.
func (f Finding) Key() Key { return Key{Host: f.Host, Symptom: f.Symptom} }

// sign returns the last time at which the host shipped, or would have if the receiver
// could have taken it, and not before a time.
func (h *Host) lastActivity(since time.Time) time.Time {
	return later(later(h.Accepted, h.Failed), since)
}

// quiet returns how long it has been since a time, without the time in which
// the receiver was not ready.
func (f *Facts) silentFor(since time.Time) time.Duration {
	d := f.Now.Sub(since)
	away := slices.SortedFunc(slices.Values(f.Away), func(a, b contacts.Span) int { return a.From.Compare(b.From) })
	for _, s := range away {
		from, to := later(s.From, since), s.To
		if to.After(f.Now) {
			to = f.Now
		}
		if to.After(from) {
			d -= to.Sub(from)
			since = to // what two of them have in common counts once
		}
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
