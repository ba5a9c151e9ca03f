// Package fleet finds sick hosts. It reads facts about each host, pure detectors turn
// facts into symptoms, and symptoms become rows of alerts.jsonl.
//
// Each run judges from the facts alone, so that a crash loses no transition: the next run
// writes the missing rows. A row is durable, or it does not exist. Facts with a time in
// the future, from a wrong clock, count as now. The package never takes a fix from a
// host's text, and does not write as a user who does not own the data.
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

// Facts are the input of a run. Detectors use nothing else.
type Facts struct {
	Now      time.Time
	Limits   Limits
	Hosts    map[ident.Host]*Host
	Away     []contacts.Span   // when the receiver was not ready to take anything
	Receiver []check.Row       // its own checks
	Held     map[Key]Entry     // the state before this run
	Seen     map[Key]time.Time // when each finding was first seen, which may be before it counts
	Known    func(id string) (check.Check, bool)
	Unread   bool  // facts of all hosts are missing, because a file could not be read
	Lost     bool  // the data folder cannot be used at all, so that the receiver's checks of it are void
	Broken   error // why the data folder could not be read or written
	contacts contacts.Contacts
	skewed   bool          // the receiver's clock is wrong, not the hosts'
	jumped   time.Duration // by how much that clock jumped forward within Lookback
	jumpedAt time.Time     // when it jumped forward last
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

// The windows that are derived from SilentAfter, because all of them depend on how often
// a host pings. Their defaults are in brackets.

// Fresh is the age up to which a ping describes the present [15 min: three missed pings].
func (l Limits) Fresh() time.Duration { return l.SilentAfter / 2 }

// Together is how long alerts with one cause are collected into one notification [10 min].
func (l Limits) Together() time.Duration { return l.SilentAfter / 3 }

// steady is how long a transient finding must last before it counts [4 min: two runs].
func (l Limits) steady() time.Duration { return l.SilentAfter * 2 / 15 }

// trend is the period over which pings are compared [1 h].
func (l Limits) trend() time.Duration { return 2 * l.SilentAfter }

// Host has the facts about one host. A zero time means never, or not known.
type Host struct {
	Roster      *roster.Host // nil: not in the roster
	Accepted    time.Time    // last accepted episode
	Stored      bool         // the store has episodes of it
	Stamped     time.Time    // last accepted episode with a commit
	Bare        time.Time    // last PUT without a commit
	Refused     Refusal      // last PUT that was refused permanently
	Since       time.Time    // first such PUT after Accepted
	Failed      time.Time    // last PUT that failed because of a fault of the receiver
	Contact     Contact
	AuthFailure AuthFailure // the last one
	Snapshot    Snapshot
	Boots       []contacts.Boot // boot ids of its last pings
	Growth      Growth
	Version     string       // running, by its last ping
	Offered     string       // version that it should run; empty: not known
	Update      *wire.Update // its update status, by its last ping
	Unread      bool         // facts of this host are missing
}

// Refusal is a PUT that was refused permanently: 4xx without 408 and 429.
type Refusal struct {
	At      time.Time
	Kind    string
	Status  int
	Commit  string
	Detail  string
	Blocked bool // the gate blocks that commit now
}

// Contact is the content of the last ping.
type Contact struct {
	At      time.Time
	Any     time.Time // of any accepted contact
	Leaving bool
	// Uninstalled means that it left for good: its silence raises no alert.
	Uninstalled bool
	Back        time.Time     // first ping after it left
	Gated       string        // why the gate refuses its running commit; empty: accepted
	Blocked     bool          // the gate blocks that commit
	Offset      time.Duration // its clock minus the receiver's
	CertEnd     time.Time     // of the certificate that it used last
	Waiting     int
	Held        int
	Failing     []string // ids of failing hard checks
}

// AuthFailure is a request whose identity was rejected. Only one with a valid
// certificate chain explains a host's silence, because anyone can send the others.
type AuthFailure struct {
	At     time.Time
	Kind   string
	Detail string
	Valid  bool
}

// Snapshot is the host's last health report.
type Snapshot struct {
	At      time.Time
	Failing []string
}

// Growth is the time and size at which a host's outbox was last at its smallest.
type Growth struct {
	Since   time.Time `json:"since"`
	Waiting int       `json:"waiting"`
}

// Finding is a symptom that is present now.
type Finding struct {
	Host    string
	Symptom string
	Since   time.Time // zero: when it was first found
	Detail  string
	Reason  Reason
	Fix     string // set by Judge
	Quiet   bool   // recorded, but not notified
	// Silenced reports that a person muted the notifications.
	Silenced bool
}

// Reason explains a finding, as far as the facts show it.
type Reason struct {
	Code  string // stable: "certificate-expired", "gated"…
	Text  string
	Check string // the check with the fix; empty for none
	Fix   string // used if no check has one
}

// Key returns what the finding is about.
func (f Finding) Key() Key { return Key{Host: f.Host, Symptom: f.Symptom} }

// lastActivity returns when the host last sent an episode that was accepted, or that
// failed because of the receiver; at the earliest since.
func (h *Host) lastActivity(since time.Time) time.Time {
	return later(later(h.Accepted, h.Failed), since)
}

// silentFor returns the time since a time, without the periods in which the receiver was
// not ready.
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
			since = to // periods may overlap
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
