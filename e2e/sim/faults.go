package sim

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// Fault is a fault with its start and duration.
type Fault struct {
	Kind string
	Who  int // index of the host; unused for faults of the receiver
	At   time.Duration
	For  time.Duration
	N    int64 // a parameter of the kind
	// When is a state: from At on, the fault waits until its target is in it, but not longer
	// than aimPatience.
	When string
}

// Party is the cause of a fault.
type Party int

// The parties.
const (
	OfHost     Party = iota // the host, or its link to the receiver
	OfReceiver              // the receiver
	OfPeople                // a decision about the gate
)

// Kind is a kind of fault.
type Kind struct {
	Party Party
	// Want are symptoms of which one must be open when the fault has lasted for
	// alertAfter; none: no alert is needed.
	Want []string
	Code []string // valid reasons; none: any
	// Mild means that the fault explains no alert.
	Mild bool
	// Often is the weight of the kind; Most bounds its duration.
	Often int
	Most  time.Duration
	start func(w *World, m *Machine, f Fault)
	end   func(w *World, m *Machine, f Fault)
}

// kinds are all kinds of faults.
func kinds() map[string]Kind {
	way := func(to Way, slow time.Duration) func(*World, *Machine, Fault) {
		return func(_ *World, m *Machine, _ Fault) { m.link.Set(to, slow) }
	}
	ail := func(ill Ill) func(*World, *Machine, Fault) {
		return func(_ *World, m *Machine, _ Fault) { m.setIll(ill) }
	}
	kill := func(service string) func(*World, *Machine, Fault) {
		return func(_ *World, m *Machine, _ Fault) { m.Kill(service) }
	}
	step := func(_ *World, m *Machine, f Fault) { m.Clock.Step(time.Duration(f.N) * time.Second) }
	back := func(_ *World, m *Machine, f Fault) { m.Clock.Step(-time.Duration(f.N) * time.Second) }
	boot := func(_ *World, m *Machine, _ Fault) { m.Boot() }
	silence := []string{fleet.Silent, fleet.DoctorFailing, fleet.Gone, fleet.FatalOnly, fleet.NeverReported}
	rx := []string{fleet.DoctorFailing, fleet.DiskLow, fleet.IndexBroken}
	all := map[string]Kind{
		"hole":   {Want: silence, Often: 3, Most: 6 * time.Hour, start: way(Hole, 0), end: way(Up, 0)},
		"refuse": {Want: silence, Often: 3, Most: 6 * time.Hour, start: way(Refuse, 0), end: way(Up, 0)},
		"portal": {Want: silence, Often: 2, Most: 6 * time.Hour, start: way(Portal, 0), end: way(Up, 0)},
		"slow":   {Often: 1, Most: 2 * time.Hour, start: way(Up, 2*time.Second), end: way(Up, 0)},
		"cut":    {Often: 3, start: func(_ *World, m *Machine, f Fault) { m.link.Cut(int(f.N%4000) + 1) }},
		"lose":   {Often: 3, start: func(_ *World, m *Machine, f Fault) { m.link.Lose(int(f.N%3)+1, f.N&4 != 0, Up) }},
		// The link breaks while it carries the answer to an upload.
		"answer-dies": {
			Often: 4, Most: 3 * time.Hour, start: func(_ *World, m *Machine, f Fault) { m.link.Lose(int(f.N%2)+1, true, Refuse) },
			end: way(Up, 0),
		},
		"host-kill":  {Often: 3, start: kill("ship")},
		"host-power": {Want: silence, Often: 3, Most: 40 * time.Hour, start: powerCut, end: boot},
		"host-clock": {Often: 4, Most: 12 * time.Hour, start: step, end: back},
		"host-full":  {Want: silence, Often: 2, Most: 6 * time.Hour, start: ail(Full), end: ail(Well)},
		"host-ro":    {Want: silence, Often: 1, Most: 6 * time.Hour, start: ail(ReadOnly), end: ail(Well)},
		"host-flaky": {Often: 2, Most: 2 * time.Hour, start: ail(Flaky), end: ail(Well)},
		"host-dead":  {Want: silence, Often: 1, Most: 4 * time.Hour, start: ail(Dead), end: ail(Well)},
		"host-hand":  {Often: 2, start: handTidies},

		"host-leaves": {
			Often: 2, Most: 30 * time.Hour, start: leaves,
			end: func(w *World, m *Machine, f Fault) { w.hosts[f.Who%len(w.hosts)].leaves.Store(false); m.Boot() },
		},
		"host-install": {Often: 2, start: handInstalls},
		"host-broken":  {Often: 2, start: breaksInstall},
		"host-local": {
			Want: []string{fleet.Silent}, Code: []string{gated}, Often: 1, Most: 4 * time.Hour, start: localBuild,
			end: releasedBuild,
		},

		"release":     {Party: OfPeople, Often: 2, start: publish(func(*Binary, Fault) {})},
		"release-zip": {Party: OfPeople, Often: 2, start: publish(func(b *Binary, _ Fault) { b.Encoder = 1 })},
		"release-crash": {
			Party: OfPeople, Often: 3,
			start: publish(func(b *Binary, f Fault) { b.Crash = time.Duration(f.N%600+30) * time.Second }),
		},

		"rx-kill":      {Party: OfReceiver, Often: 3, start: kill("serve")},
		"rx-ca-kill":   {Party: OfReceiver, Often: 1, start: kill("bootstrap")},
		"rx-power":     {Party: OfReceiver, Often: 3, Most: 6 * time.Hour, start: powerCut, end: boot},
		"rx-nobattery": {Party: OfReceiver, Often: 2, Most: 3 * time.Hour, start: noBattery, end: back},
		"rx-clock":     {Party: OfReceiver, Often: 3, Most: 12 * time.Hour, start: step, end: back},
		"rx-full":      {Party: OfReceiver, Want: rx, Often: 2, Most: 6 * time.Hour, start: ail(Full), end: ail(Well)},
		"rx-ro":        {Party: OfReceiver, Want: rx, Often: 1, Most: 6 * time.Hour, start: ail(ReadOnly), end: ail(Well)},
		"rx-flaky":     {Party: OfReceiver, Often: 1, Most: time.Hour, start: ail(Flaky), end: ail(Well)},
		"rx-nosync":    {Party: OfReceiver, Want: rx, Often: 2, Most: 6 * time.Hour, start: notDurable, end: ail(Well)},
		"rx-dead":      {Party: OfReceiver, Want: rx, Often: 1, Most: 4 * time.Hour, start: ail(Dead), end: ail(Well)},
		"rx-unmounted": {Party: OfReceiver, Want: rx, Often: 1, Most: 4 * time.Hour, start: unmounted, end: mounted},
		"rx-rotate":    {Party: OfReceiver, Often: 2, start: rotate},
		"rx-restore":   {Party: OfReceiver, Often: 1, start: restore},

		"nobody-hears": {
			Party: OfReceiver, Often: 1, Most: 6 * time.Hour,
			start: func(w *World, _ *Machine, _ Fault) { w.away.Store(true) }, end: func(w *World, _ *Machine, _ Fault) { w.away.Store(false) },
		},

		"gate-wrong": {
			Party: OfPeople, Want: silence, Code: []string{gated}, Often: 3, Most: 5 * time.Hour,
			start: decide("blocked_commits = [\"" + string(ownCommit) + "\"]"), end: decide(""),
		},
		"gate-typo": {Party: OfReceiver, Often: 1, Most: 3 * time.Hour, start: decide("blocked_commits = oops"), end: decide("")},
		// The decision is never revoked.
		"gate-block": {Party: OfPeople, Code: []string{gated}, Often: 1, start: decide("blocked_commits = [\"" + string(ownCommit) + "\"]")},

		"rx-low": {Party: OfReceiver, Want: rx, Often: 1, Most: 4 * time.Hour, start: ail(Low), end: ail(Well)},
		"crawl": {
			Often: 1, Most: 3 * time.Hour,
			start: func(_ *World, m *Machine, f Fault) { m.link.Set(Up, time.Duration(f.N%120+5)*time.Second) }, end: way(Up, 0),
		},
		"host-low": {
			Want: []string{fleet.Silent}, Code: []string{"not-recording"}, Often: 1, Most: 4 * time.Hour, start: ail(Low),
			end: ail(Well),
		},
		"host-idle": {
			Want: []string{fleet.Silent}, Code: []string{"not-recording"}, Often: 1, Most: 4 * time.Hour, start: idle(true),
			end: idle(false),
		},
		"rx-unwatched": {
			Party: OfReceiver, Often: 1, Most: 6 * time.Hour,
			start: func(w *World, _ *Machine, _ Fault) { w.unwatched.Store(true) },
			end:   func(w *World, _ *Machine, _ Fault) { w.unwatched.Store(false) },
		},
		"rx-oldrelease": {
			Party: OfPeople, Often: 1, Most: 2 * time.Hour,
			start: func(w *World, _ *Machine, _ Fault) { w.oldOffer.Store(true) },
			end:   func(w *World, _ *Machine, _ Fault) { w.oldOffer.Store(false) },
		},
		"host-clock-idle": {
			Want: []string{fleet.Silent}, Code: []string{"clock"}, Often: 1, Most: 3 * time.Hour,
			start: func(w *World, m *Machine, f Fault) { idle(true)(w, m, f); step(w, m, f) },
			end:   func(w *World, m *Machine, f Fault) { back(w, m, f); idle(false)(w, m, f) },
		},
	}
	maps.Copy(all, spots())
	maps.Copy(all, peoples())
	maps.Copy(all, timely())
	maps.Copy(all, sleepers())
	maps.Copy(all, replays())
	maps.Copy(all, mistypes())
	maps.Copy(all, hushes())
	maps.Copy(all, hangs())
	return all
}

func idle(yes bool) func(*World, *Machine, Fault) {
	return func(w *World, _ *Machine, f Fault) { w.hosts[f.Who%len(w.hosts)].idle.Store(yes) }
}

// Kinds returns the names of all kinds.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds())) }

func (m *Machine) setIll(ill Ill) {
	m.dmu.Lock()
	m.ill = ill
	m.dmu.Unlock()
}

// notDurable is a disk on which all calls that make data durable fail, or only syncfs(2).
func notDurable(_ *World, m *Machine, f Fault) {
	if m.setIll(NoSync); f.N&1 != 0 {
		m.setIll(NoFlush)
	}
}

func powerCut(_ *World, m *Machine, f Fault) {
	m.Off([]faultdisk.Survive{faultdisk.Nothing, faultdisk.Names, faultdisk.HalfData, faultdisk.All}[f.N&3])
}

// noBattery is a power cut with an immediate boot. The clock continues from the time of the
// power cut, or an earlier time, until it is synchronized.
func noBattery(w *World, m *Machine, f Fault) {
	powerCut(w, m, f)
	w.wg.Go(func() {
		time.Sleep(min(time.Duration(-f.N)*time.Second, f.For) / 2)
		m.Clock.Step(time.Duration(f.N) * time.Second)
		m.Boot()
	})
}

// handTidies is a person who removes waiting tarballs to free space, where the recorder's
// folder still has the episode. After the receiver lost its store, a tarball may be the only copy.
func handTidies(_ *World, m *Machine, _ Fault) {
	for _, id := range m.names("episodes") {
		_ = m.disk.Remove(filepath.Join(m.data, "outbox", id+wire.TarballSuffix))
	}
}

// leaves is a person who shuts a host down.
func leaves(w *World, m *Machine, f Fault) {
	w.hosts[f.Who%len(w.hosts)].leaves.Store(true)
	m.Stop("ship")
	time.Sleep(15 * time.Second)
	m.Off(faultdisk.All)
}

// unmounted is a boot without the data disk. A disk on which no store was
// made yet cannot be missed.
func unmounted(_ *World, m *Machine, _ Fault) {
	if !disk.Exists(m.disk, filepath.Join(m.data, store.IDFile)) {
		return
	}
	m.Off(faultdisk.All)
	bare := faultdisk.New(m.data)
	bare.SetClock(m.Clock.Now)
	m.dmu.Lock()
	m.bare = bare
	m.dmu.Unlock()
	m.Boot()
}

func mounted(_ *World, m *Machine, _ Fault) {
	m.dmu.Lock()
	there := m.bare == nil
	m.dmu.Unlock()
	if there {
		return
	}
	m.Off(faultdisk.All)
	m.dmu.Lock()
	m.bare = nil
	m.dmu.Unlock()
	m.Boot()
}

// rotate renames a ledger, as logrotate does.
func rotate(_ *World, m *Machine, f Fault) {
	name := []string{local.AlertsFile, local.RejectionsFile, local.IndexFile, receiver.FleetCheckDoc}[f.N&3]
	path := filepath.Join(m.data, name)
	_ = m.disk.Rename(path, fmt.Sprintf("%s.%d", path, f.N))
}

// restore writes the ledgers back to an empty store, as `cis490 restore` does.
func restore(w *World, m *Machine, _ Fault) {
	m.dmu.Lock()
	bare := m.bare != nil
	m.dmu.Unlock()
	if bare {
		return // the disk is not mounted
	}
	m.Off(faultdisk.All)
	if err := store.ExpectAnother(m.person().fs, store.KnownDir(rxConfig)); err != nil {
		w.trace(m.name, "%v", err)
	}
	for _, name := range []string{store.EpisodesDir, store.StagedDir, store.IDFile, local.IndexFile} {
		removeAll(m.disk, filepath.Join(m.data, name))
	}
	m.Boot()
}

func removeAll(d *faultdisk.Disk, path string) {
	entries, _ := d.ReadDir(path)
	for _, e := range entries {
		removeAll(d, filepath.Join(path, e.Name()))
	}
	_ = d.Remove(path)
}

func decide(text string) func(*World, *Machine, Fault) {
	return func(w *World, _ *Machine, _ Fault) {
		if w.blocked.Load() {
			return // the decision is final
		}
		_ = w.configure(text)
	}
}

// publish is a person who publishes a release of any quality.
func publish(as func(*Binary, Fault)) func(*World, *Machine, Fault) {
	return func(w *World, _ *Machine, f Fault) {
		if err := w.recv.publish(func(b *Binary) { as(b, f) }); err != nil {
			w.trace("receiver", "not published: %v", err)
		}
	}
}

// target returns the machine of a fault.
func (w *World) target(f Fault) *Machine {
	if w.kinds[f.Kind].Party == OfHost {
		return w.hosts[f.Who%len(w.hosts)].Machine
	}
	return w.rx
}
