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

// The soak runs at the pace of watchFleet, twenty times the real one. So do the timers that
// repair hosts.
const (
	soakHosts  = 10
	soakLanes  = 4                // faults at the same time
	strikeAt   = 40 * time.Second // interval of strikes
	mendEvery  = 20 * time.Second
	alertLimit = 5 * time.Minute  // from a strike to its alert
	healLimit  = 10 * time.Minute // from the end of a fault until it is healed
)

// TestSoak: ten hosts record and ship for CIS490_SOAK_HOURS while random faults strike,
// several at a time. The same CIS490_SOAK_SEED gives the same faults in the same order. The
// product alone repairs the fleet. At the end both sides have the same episodes, each alert
// had a fault, each fault had its required alerts, and no daemon has grown.
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
		s.observe()
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
	s.checkNoGrowth()
	s.stopAndDrain()
	s.checkBothSides()
	s.checkAlerts()
	s.logTable()
}

// A soak is a fleet under faults.
type soak struct {
	*updates
	faults *deck[fault]
	places *deck[*lab.Host]
	rand   *rand.Rand
	next   *hit   // the next to strike
	hits   []*hit // in the order of their strikes

	off     map[*lab.Host]bool     // powered off
	taken   map[string][]time.Time // when the receiver accepted each host's episodes
	read    map[string]int         // bytes read of each ledger
	ran     time.Time              // last observed run of fleet-check, by the receiver's clock
	checked time.Time              // when it was observed
	fired   map[string]time.Time   // when each "host symptom" had its last firing row
	last    map[string]string      // the state of its last row
	aside   map[string]bool        // episodes that must be quarantined
	judged  map[string]bool        // false alerts that were reported
	samples []sample
	sampled time.Time
}

// newSoak returns a fleet whose hosts all ship. Their data is on small disks, which a fault
// can fill.
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
	u.rx.Run("cis490 release promote --seq 1 --force") // all machines run it already
	setTimer(f.rx, "cis490-fleet-health", checkEvery)
	setTimer(f.rx, "cis490-autoupdate", mendEvery)
	for i := range soakHosts {
		h := f.Boot(fmt.Sprintf("lab-%02d", i+1), lab.WithTmpfs(spool, "64M"))
		f.hosts = append(f.hosts, h)
		h.Write("/etc/cis490/experiment.toml", shortExperiment, 0o644)
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
			setTimer(h, timer, mendEvery)
		}
	}
	for _, h := range f.hosts {
		f.waitAccepted(h, 2, time.Minute)
	}
	s.startPortal()
	s.faults, s.places = newDeck(source, weighted(append(hostFaults(), receiverFaults()...))), newDeck(source, f.hosts)
	s.draw()
	return s
}

// binary builds a version for machines whose clocks can be stepped.
func (s *soak) binary(version string) string {
	return lab.BinaryWith(s.t, version, commitOf(version), lab.OwnClock(s.t))
}

// hastyTrial is the config of short trials.
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

// A deck deals its cards in random order, each once before any is dealt again.
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
	choice int // random, for faults with variants

	struck, ended, healed time.Time
	closed                time.Time            // when the test knew that it had healed
	mendedAt              time.Time            // when its command first worked
	alerted               map[string]time.Time // when each of its alerts was first open, as "host symptom/reason"
	open, calm            time.Time            // last run of fleet-check with its alert, first run without
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

// strike strikes the next hit. It returns false if the hit must wait: for a free lane, for
// its machine, for the receiver, or because it or an active fault affects all hosts.
func (s *soak) strike() bool {
	h, active := s.next, s.active()
	if len(active) >= soakLanes || h.all && len(active) > 0 {
		return false
	}
	for _, other := range active {
		if other.at == h.at || other.all || h.needsReceiver && other.receiver {
			return false
		}
	}
	s.draw()
	h.struck = time.Now()
	s.t.Logf("%s  %-32s %s", h.struck.Format(time.TimeOnly), h.name, h.at.Name)
	s.hits = append(s.hits, h)
	h.strike(h, s)
	if h.end == nil && len(h.must) == 0 {
		s.markEnded(h)
	}
	return true
}

// step ends a hit when its time has come, and closes it once it is healed.
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
			s.markEnded(h)
		}
		return
	}
	at, well := s.healedSince(h)
	switch {
	case well:
		h.healed, h.closed = at, now
		s.t.Logf("%s  %-32s %s: %s", at.Format(time.TimeOnly), h.name, h.at.Name, h.describeTimes())
	case now.Sub(h.ended) > healLimit:
		s.t.Fatalf("%s at %s is not healed %s after its end", h.name, h.at.Name, healLimit)
	}
}

// markEnded stores when a hit ended. From then on, only the product repairs.
func (s *soak) markEnded(h *hit) { h.ended = time.Now() }
