//go:build e2e && soak

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// The pace of the soak is that of `watched`: a twentieth of the real one. So are the
// timers of what mends hosts by itself.
const (
	soakHosts  = 10
	soakLanes  = 4                // faults at the same time
	strikeAt   = 40 * time.Second // one each, and one after another when it is late
	mendEvery  = 20 * time.Second
	alertLimit = 5 * time.Minute  // for an alert to come
	healLimit  = 10 * time.Minute // for all to be well after a fault's end
)

// TestSoak: ten hosts record and ship for CIS490_SOAK_HOURS while faults of the
// list strike at random, several at a time; CIS490_SOAK_SEED gives the same faults in
// the same order. Nobody mends anything. In the end both sides have the same, each
// alert was of a fault and right, each fault that asks for one had it, and no
// daemon has grown.
func TestSoak(t *testing.T) {
	hours, err := strconv.ParseFloat(os.Getenv("CIS490_SOAK_HOURS"), 64)
	if err != nil || hours <= 0 {
		t.Fatalf("CIS490_SOAK_HOURS=%q: want a number of hours, such as 0.25", os.Getenv("CIS490_SOAK_HOURS"))
	}
	seed, err := strconv.ParseUint(os.Getenv("CIS490_SOAK_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() % 1e6
	}
	t.Logf("seed %d: make soak HOURS=%v SEED=%[1]d strikes the same faults in the same order", seed, hours)
	s := newSoak(t, seed)
	s.sample()
	began := time.Now()
	for struck := 0; ; time.Sleep(time.Second) {
		s.look()
		for _, h := range s.active() {
			s.step(h)
		}
		s.sampleSometimes()
		over := time.Since(began) > time.Duration(hours*float64(time.Hour))
		if over && len(s.active()) == 0 {
			break
		}
		if !over && time.Since(began) > time.Duration(struck)*strikeAt && s.strike() {
			struck++
		}
	}
	faults := len(slices.DeleteFunc(slices.Clone(s.hits), func(h *hit) bool { return h.good }))
	s.t.Logf("%d faults in %s", faults, time.Since(began).Round(time.Second))
	if least := int(60 * hours); faults < least {
		t.Errorf("%d faults, want %d", faults, least)
	}
	s.sample()
	s.nothingGrew()
	s.rest()
	s.sameOnBothSides()
	s.alertsWereRight()
	s.table()
}

// soak is a fleet under faults.
type soak struct {
	*updates
	faults *deck[fault]
	places *deck[*lab.Host]
	rand   *rand.Rand
	next   *hit   // drawn, and not struck yet
	hits   []*hit // in the order of striking

	off     map[*lab.Host]bool     // without power
	taken   map[string][]time.Time // when the receiver took each host's episodes
	read    map[string]int         // bytes of the ledgers that were looked at
	ran     time.Time              // by the receiver's clock, fleet-check's last run that was looked at
	checked time.Time              // when it was looked at
	fired   map[string]time.Time   // when each "host symptom" had its last firing row
	last    map[string]string      // the state of its last row
	aside   map[string]bool        // episodes that are to be set aside
	judged  map[string]bool        // alerts that no fault explains
	samples []sample
	sampled time.Time
}

// newSoak is a fleet of which each host ships; the places of its data are small
// disks, which can be filled.
func newSoak(t *testing.T, seed uint64) *soak {
	u := &updates{fleet: &fleet{Lab: lab.New(t), t: t}, keys: t.TempDir()}
	f := u.fleet
	source := rand.New(rand.NewPCG(seed, seed))
	s := &soak{
		updates: u, rand: source, off: map[*lab.Host]bool{}, aside: map[string]bool{}, judged: map[string]bool{}, taken: map[string][]time.Time{},
		read: map[string]int{}, fired: map[string]time.Time{}, last: map[string]string{},
	}
	f.rx = f.Boot("collector", lab.WithTmpfs("/var/lib/cis490", "768M"))
	v1 := s.binary("v1")
	f.rx.Push(v1, "/root/v1/cis490-linux-amd64")
	f.rx.Write("/etc/cis490/receiver.toml", `public_url = "https://collector.lab:8443"
[authority]
cert_life = "30m"
server_life = "30m"
[limits]
disk_reserve = "64 MiB"
[fleet]
silent_after = "`+silentAfter.String()+`"
never_reported = "1m"
`+hastyTrial, 0o644)
	watchdog(f.rx, "cis490-receiver", "cis490-bootstrap")
	f.rx.Run("cp /root/v1/cis490-linux-amd64 /root/cis490 && chmod +x /root/cis490 && /root/cis490 install receiver")
	u.publish("v1", v1)
	u.rx.Run("cis490 release promote --seq 1 --force") // all run it already
	every(f.rx, "cis490-fleet-health", checkEvery)
	every(f.rx, "cis490-autoupdate", mendEvery)
	for i := range soakHosts {
		h := f.Boot(fmt.Sprintf("lab-%02d", i+1), lab.WithTmpfs(spool, "64M"))
		f.hosts = append(f.hosts, h)
		h.Write("/etc/cis490/experiment.toml", quick, 0o644)
		h.Write("/etc/cis490/lab-host.toml", busyConfig(h.Name, 5*time.Second, authorityURL)+`disk_reserve = "16 MiB"
[ship]
ping_every = "15s"
shipped_keep_bytes = "16 MiB"
reconcile_every = "1m"
[doctor]
outbox_oldest = "90s"
last_accepted = "90s"
`+hastyTrial, 0o644)
		watchdog(h, "cis490-shipper", "cis490-orchestrator")
		f.join(h)
		for _, timer := range []string{"cis490-autoupdate", "cis490-cert-fetch"} {
			every(h, timer, mendEvery)
		}
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, time.Minute)
	}
	s.opensPortal()
	s.faults, s.places = newDeck(source, dealt(append(hostFaults(), receiverFaults()...))), newDeck(source, f.hosts)
	s.draw()
	return s
}

// binary builds a version for machines whose clocks can be stepped.
func (s *soak) binary(version string) string {
	return lab.BinaryWith(s.t, version, commitOf(version), lab.OwnClock(s.t))
}

// hastyTrial is how long a release has to prove itself.
const hastyTrial = `[update]
trial = "30s"
watch = "4s"
`

// watchdog shortens how long daemons may hang, as a site may.
func watchdog(h *lab.Host, units ...string) {
	for _, u := range units {
		h.Write("/etc/systemd/system/"+u+".service.d/lab.conf", "[Service]\nWatchdogSec=40\n", 0o644)
	}
	h.Run("systemctl daemon-reload")
}

// deck deals its cards in a random order, all of them before any comes again.
type deck[T any] struct {
	rand  *rand.Rand
	cards []T
	left  []T
}

func newDeck[T any](source *rand.Rand, cards []T) *deck[T] {
	return &deck[T]{rand: source, cards: cards}
}

func (d *deck[T]) deal() T {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.cards)
		d.rand.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	card := d.left[0]
	d.left = d.left[1:]
	return card
}

// A hit is a fault that strikes a machine.
type hit struct {
	fault
	at     *lab.Host
	lasts  time.Duration
	choice int // of what the fault leaves open

	struck, ended, healed time.Time
	closed                time.Time            // when it was clear that it has healed
	mendedAt              time.Time            // when its command first worked
	alerted               map[string]time.Time // when each of its alerts was first open, as "host symptom/reason"
	open, calm            time.Time            // fleet-check's last run with an alert of it, the first one after that without
}

// draw decides the next hit, by nothing but the seed.
func (s *soak) draw() {
	h := &hit{fault: s.faults.deal(), at: s.rx, choice: s.rand.Int(), alerted: map[string]time.Time{}}
	if !h.receiver {
		h.at = s.places.deal()
	}
	h.lasts = h.least + time.Duration(s.rand.Float64()*float64(h.most-h.least)).Round(time.Second)
	s.next = h
}

// active returns the hits that have not healed.
func (s *soak) active() []*hit {
	var all []*hit
	for _, h := range s.hits {
		if h.closed.IsZero() {
			all = append(all, h)
		}
	}
	return all
}

// strike strikes the next hit, unless it has to wait: for a free lane, for its
// machine, for a receiver that hears it, or as one of the two is of all hosts.
func (s *soak) strike() bool {
	h, active := s.next, s.active()
	if len(active) >= soakLanes || h.all && len(active) > 0 {
		return false
	}
	for _, other := range active {
		if other.at == h.at || other.all || h.told && other.receiver {
			return false
		}
	}
	s.draw()
	h.struck = time.Now()
	s.t.Logf("%s  %-32s %s", h.struck.Format(time.TimeOnly), h.name, h.at.Name)
	s.hits = append(s.hits, h)
	h.strike(h, s)
	if h.end == nil && len(h.must) == 0 {
		s.ends(h)
	}
	return true
}

// step takes a hit from its strike to its end, and on until all is well.
func (s *soak) step(h *hit) {
	now := time.Now()
	if h.ended.IsZero() {
		missing := s.missing(h)
		late := now.Sub(h.struck) > h.lasts+alertLimit
		if late && len(missing) > 0 {
			s.t.Errorf("%s at %s: no alert %v within %s", h.name, h.at.Name, missing, now.Sub(h.struck).Round(time.Second))
		}
		if now.Sub(h.struck) >= h.lasts && (len(missing) == 0 || late) {
			if h.end != nil {
				h.end(h, s)
			}
			s.ends(h)
		}
		return
	}
	at, well := s.well(h)
	switch {
	case well:
		h.healed, h.closed = at, now
		s.t.Logf("%s  %-32s %s: %s", at.Format(time.TimeOnly), h.name, h.at.Name, h.times())
	case now.Sub(h.ended) > healLimit:
		s.t.Fatalf("%s at %s is not well %s after its end", h.name, h.at.Name, healLimit)
	}
}

// ends notes that from here on nothing but the product mends.
func (s *soak) ends(h *hit) { h.ended = time.Now() }
