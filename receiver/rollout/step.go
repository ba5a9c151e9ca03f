package rollout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/receiver"
)

const (
	// laggard is how long a host may delay a release.
	laggard = 24 * time.Hour
	// decideWithin is how long a host may take to refuse a release, beginWithin to begin its trial.
	decideWithin = 30 * time.Minute
	beginWithin  = 2 * time.Hour
	// maxCanaries bounds how many hosts are tried one after the other when the
	// first falls silent.
	//off:10_CanaryOff
	maxCanaries = 3
	// tolerated is how many hosts may roll back after the canary succeeded.
	tolerated = 1
)

// Step carries out orders and moves releases on.
func (r *Controller) Step() {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.step()
	if err == nil {
		r.last = ""
	} else if r.last != err.Error() { // once, not every two seconds
		r.last = err.Error()
		r.o.Log.Error("cannot advance the rollout", "err", err)
	}
}

func (r *Controller) step() error {
	if r.unread != nil {
		if r.unread = r.load(); r.unread != nil {
			return r.unread
		}
		r.o.Log.Info("read releases")
	}
	if err := r.read(); err != nil {
		return err
	}
	if leads, err := r.leads(); err != nil {
		return err
	} else if !leads {
		return r.follow()
	}
	next := r.state.clone()
	r.bridge(&next)
	if c := r.o.Build.Commit; c != "" && !slices.Contains(next.Own, c) {
		next.Own = append(next.Own, c)
		next.Own = next.Own[max(0, len(next.Own)-maxOwn):]
	}
	for _, o := range r.orders {
		r.carryOut(&next, o)
	}
	newest := true // only the newest release that is not withdrawn advances
	for _, p := range next.Releases {
		if p.Stage == rel.StageWithdrawn {
			continue
		}
		r.recordTrials(p)
		r.advance(p, newest)
		newest = newest && p.Stage == rel.StageWithdrawn
	}
	return r.save(next)
}

// bridge moves stored times by a jump of the clock, so that it does not count as time of
// a trial. Times in the future, from a wrong clock, become now.
func (r *Controller) bridge(next *state) {
	now := r.o.Clock()
	shift, jumped := r.line.Advance(now)
	move := func(t *time.Time) {
		if jumped {
			*t = shift.Move(*t)
		}
		if t.After(now.Wall) {
			*t = now.Wall
		}
	}
	for h, t := range r.hosts {
		move(&t.At)
		r.hosts[h] = t
	}
	for _, p := range next.Releases {
		move(&p.Since)
	}
	if jumped {
		r.warmupUntil = shift.Move(r.warmupUntil)
	}
}

// read reads the orders and manifests again if there are new ones.
func (r *Controller) read() error {
	version, err := r.o.Releases.Version()
	if err != nil {
		return err
	}
	if version == "" {
		r.list, r.orders, r.seen = nil, nil, ""
		return nil
	}
	if version == r.seen {
		return nil
	}
	orders, err := r.o.Releases.Orders()
	if err != nil {
		return err
	}
	list, err := r.o.Releases.List()
	if err != nil {
		return err
	}
	r.orders, r.list, r.seen = orders, list, version
	return nil
}

// clone returns a deep copy, with times as the file has them.
func (s state) clone() state {
	next := state{s.Rollout, slices.Clone(s.Own)}
	next.Releases = slices.Clone(s.Releases)
	for i, p := range next.Releases {
		q := *p
		q.Since, q.Ordered = q.Since.Round(0), q.Ordered.Round(0)
		q.Canaries, q.Clean, q.RolledBack = slices.Clone(q.Canaries), slices.Clone(q.Clean), slices.Clone(q.RolledBack)
		next.Releases[i] = &q
	}
	return next
}

// save stores the next state durably, then makes it the current one.
func (r *Controller) save(next state) error {
	if reflect.DeepEqual(r.state, next) {
		return nil // every two seconds
	}
	before, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	after, err := json.Marshal(next)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	if err := r.o.Releases.SaveRollout(append(after, '\n')); err != nil {
		if errors.Is(err, receiver.ErrLeased) { // another one took it while this one was away
			err = errors.Join(err, r.resign())
		}
		return err
	}
	for _, p := range next.Releases {
		if old := r.state.Of(p.Seq); old == nil || old.Stage != p.Stage {
			r.o.Log.Info(
				"release changed stage", "version", p.Version, "seq", p.Seq, "stage", string(p.Stage), "reason", p.Reason, "canaries",
				fmt.Sprint(p.Canaries),
			)
		}
	}
	r.state = next
	return nil
}

// carryOut carries out a person's order, once.
func (r *Controller) carryOut(next *state, o rel.Order) {
	p := next.Of(o.Seq)
	if o.Verb == rel.OrderPublish && p == nil {
		i := slices.IndexFunc(r.list, func(l rel.Published) bool { return l.Manifest.Seq == o.Seq })
		if i < 0 {
			return
		}
		m := r.list[i].Manifest
		p = &rel.Progress{Seq: m.Seq, Version: m.Version, Commit: m.Commit, Stage: rel.StageReceiver, Since: r.o.Now().UTC(), Ordered: o.At}
		next.Releases = append(next.Releases, p)
		slices.SortFunc(next.Releases, func(a, b *rel.Progress) int { return strings.Compare(pad(b.Seq), pad(a.Seq)) })
		return
	}
	if p == nil || !o.At.After(p.Ordered) {
		return
	}
	p.Ordered = o.At
	switch o.Verb {
	case rel.OrderWithdraw:
		p.Blocked = p.Blocked || o.Block
		r.setStage(p, rel.StageWithdrawn, cmp.Or(o.Reason, "ordered by hand"))
	case rel.OrderPromote:
		after := map[rel.Stage]rel.Stage{
			rel.StageReceiver: rel.StageCanary, rel.StageCanary: rel.StageQuarter, rel.StageQuarter: rel.StageAll,
		}
		switch stage, ok := after[p.Stage]; {
		case o.Force:
			p.Blocked = false
			p.RolledBack = nil
			r.setStage(p, rel.StageAll, "forced by hand")
		case ok:
			r.setStage(p, stage, "promoted by hand")
		}
	}
}

func pad(n uint64) string { return fmt.Sprintf("%020d", n) }

func (r *Controller) setStage(p *rel.Progress, s rel.Stage, reason string) {
	p.Stage, p.Since, p.Reason = s, r.o.Now().UTC(), reason
}

// recordTrials records the results of a release's trials, by the hosts' pings.
func (r *Controller) recordTrials(p *rel.Progress) {
	slices.Sort(p.Clean)
	slices.Sort(p.RolledBack)
	for h, t := range r.hosts {
		if t.Update == nil {
			continue
		}
		if t.Update.Good.Seq == p.Seq {
			p.Clean = insertSorted(p.Clean, h)
		}
		for _, b := range t.Update.RolledBack {
			// Failures before a forced promotion do not count again.
			forced := p.Reason == "forced by hand" && b.At.Before(p.Since)
			if b.Seq == p.Seq && !forced {
				p.RolledBack = insertSorted(p.RolledBack, h)
			}
		}
	}
}

// insertSorted returns the sorted list with the host.
func insertSorted(list []ident.Host, h ident.Host) []ident.Host {
	i, found := slices.BinarySearch(list, h)
	if found {
		return list
	}
	return slices.Insert(list, i, h)
}

// advance moves a release to its next stage if the trials of this one succeeded, and
// withdraws it if they failed.
func (r *Controller) advance(p *rel.Progress, newest bool) {
	if why := r.failed(p); why != "" {
		r.setStage(p, rel.StageWithdrawn, why)
		return
	}
	if !newest {
		return // there is a newer one; hosts that run this one keep it
	}
	if p.Stage == rel.StageReceiver && r.provenHere(p) {
		r.setStage(p, rel.StageCanary, "its trial on the receiver succeeded")
	}
	if p.Stage == rel.StageCanary {
		if i := slices.IndexFunc(p.Canaries, func(h ident.Host) bool { return slices.Contains(p.Clean, h) }); i >= 0 {
			r.setStage(p, rel.StageQuarter, fmt.Sprintf("its trial on the canary %s succeeded", p.Canaries[i]))
		} else {
			r.chooseCanary(p)
		}
	}
	if p.Stage == rel.StageQuarter && r.quarterDone(p) {
		r.setStage(p, rel.StageAll, "its trials on one host in four succeeded")
	}
}

func (r *Controller) failed(p *rel.Progress) string {
	if r.o.Own != nil {
		if own, err := r.o.Own(); err == nil && own != nil {
			for _, b := range own.RolledBack {
				if b.Seq == p.Seq && p.Stage == rel.StageReceiver {
					return "it failed on the receiver: " + b.Why
				}
			}
		}
	}
	for _, h := range p.RolledBack {
		if slices.Contains(p.Canaries, h) && (p.Stage == rel.StageCanary || p.Stage == rel.StageReceiver) {
			return fmt.Sprintf("it failed on the canary %s: %s", h, r.rollbackReason(h, p.Seq))
		}
	}
	if n := len(p.RolledBack); n > tolerated {
		return fmt.Sprintf("it failed on %d hosts, last on %s: %s", n, p.RolledBack[n-1], r.rollbackReason(p.RolledBack[n-1], p.Seq))
	}
	return ""
}

func (r *Controller) rollbackReason(h ident.Host, seq uint64) string {
	if u := r.hosts[h].Update; u != nil {
		for _, b := range u.RolledBack {
			if b.Seq == seq {
				return clip(b.Why)
			}
		}
	}
	return "the host did not report why"
}

// provenHere reports whether the receiver's own trial succeeded. A release without a
// binary for the receiver skips it.
func (r *Controller) provenHere(p *rel.Progress) bool {
	i := slices.IndexFunc(r.list, func(l rel.Published) bool { return l.Manifest.Seq == p.Seq })
	if i < 0 {
		return false
	}
	if _, ok := r.list[i].Manifest.For(r.o.Build.OS, r.o.Build.Arch); !ok {
		return true
	}
	if r.o.Own == nil {
		return false
	}
	own, err := r.o.Own()
	return err == nil && own != nil && own.Good.Seq >= p.Seq
}

// chooseCanary picks a new canary if there is none, if the last one is silent or declines
// the release, or if its trial has run for a day.
func (r *Controller) chooseCanary(p *rel.Progress) {
	if len(p.Canaries) >= maxCanaries {
		return
	}
	for _, h := range p.Canaries {
		if r.o.Now().Sub(r.hosts[h].At) < r.o.SilentAfter && r.o.Now().Sub(p.Since) <= laggard && !r.declines(p, r.hosts[h]) {
			return // its trial is in progress
		}
	}
	best, at := ident.Host(""), uint32(0)
	for h, t := range r.hosts {
		if !r.takesPart(p, t) || t.Ailing || t.Update.Trial != nil || slices.Contains(p.Canaries, h) {
			continue
		}
		if n := draw(p.Seq, h); best == "" || n < at {
			best, at = h, n
		}
	}
	if best != "" {
		p.Canaries, p.Since = append(p.Canaries, best), r.o.Now().UTC()
		r.o.Log.Info("canary chosen", "version", p.Version, "seq", p.Seq, "host", string(best))
	}
}

// declines reports whether a host had time to try a release, and refused it for a reason
// of its own or did not begin, for example because a person installed another version there.
func (r *Controller) declines(p *rel.Progress, t Report) bool {
	within := beginWithin
	if t.Update != nil && t.Update.Refused != "" {
		within = decideWithin
	}
	return r.o.Now().Sub(p.Since) > within && t.Update != nil && t.Update.Trial == nil
}

// quarterDone reports whether the trials of the quarter ended on all hosts that ping, or
// have had a day.
func (r *Controller) quarterDone(p *rel.Progress) bool {
	if r.o.Now().Before(r.warmupUntil) {
		return false
	}
	if r.o.Now().Sub(p.Since) > laggard {
		return true
	}
	for h, t := range r.hosts {
		done := slices.Contains(p.Clean, h) || slices.Contains(p.RolledBack, h)
		if inQuarter(p.Seq, h) && r.takesPart(p, t) && !done {
			return false
		}
	}
	return true
}

// takesPart reports whether a host should try a release now.
func (r *Controller) takesPart(p *rel.Progress, t Report) bool {
	i := slices.IndexFunc(r.list, func(l rel.Published) bool { return l.Manifest.Seq == p.Seq })
	if i < 0 || t.Update == nil || t.Leaving || r.o.Now().Sub(t.At) >= r.o.SilentAfter {
		return false
	}
	_, ok := r.list[i].Manifest.For(t.OS, t.Arch)
	return ok
}

func clip(s string) string { return s[:min(len(s), 300)] }
