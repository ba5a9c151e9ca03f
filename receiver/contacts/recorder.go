package contacts

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/wire"
	"cis490/receiver"
)

// How often the file is written. Without changes it is written each beatEvery, so that
// readers see how long the receiver ran.
const (
	writeEvery = 3 * time.Second
	beatEvery  = time.Minute
)

// Options describe a Recorder and Rejections.
type Options struct {
	Docs       receiver.Docs
	Peers      receiver.Peers // nil: there is one receiver, which writes a document
	Rejections receiver.Log[receiver.Rejection]
	Version    string // of this receiver
	Now        func() time.Time
	Clock      func() clock.Reading // nil: Now alone
	Poll       time.Duration        // shortest interval between two writes; 0: a few seconds
	Log        *slog.Logger
	// Heard is called with the contact of a host whose ping another receiver has taken; nil:
	// nobody needs it.
	Heard func(ident.Host, Contact)
}

// Recorder writes contacts.json or, with other receivers, what they publish for each other.
// Its methods may be called from many goroutines. Only
// Run and Save wait for the disk.
type Recorder struct {
	o Options

	mu        sync.Mutex
	c         Contacts
	dirty     bool
	unwritten error                 // of the last Save
	tick      clock.Reading         // of the last Save
	changed   map[ident.Host]bool   // not published yet
	books     []Contacts            // of all receivers, without hosts
	encoded   map[ident.Host][]byte // contacts that did not change since, of one receiver

	saving sync.Mutex // guards what follows
	unread error      // why the file could not be read yet; then it is not written
	shared *shared    // nil: not read yet, or there is one receiver
}

// now returns the time, after it moved the stored times by a jump of the clock, if there
// was one. The caller holds mu.
func (b *Recorder) now() time.Time {
	r := b.o.Clock()
	if b.c.Bridge(r) {
		b.dirty, b.encoded = true, nil
		jumps := b.c.Receiver.Jumps
		b.o.Log.Warn("clock jumped; moved stored times",
			"by", jumps[len(jumps)-1].By.Round(time.Second), "fix", machine.ClockFix)
	}
	return r.Wall
}

// noteGap records an outage if too much time has passed since the last Save, because the
// machine was suspended or the process stopped.
func (b *Recorder) noteGap(now time.Time) {
	last := b.tick
	b.tick = b.c.Receiver.Clock.Mark
	if passed, ok := b.tick.Since(last); ok && passed > max(beatEvery, 2*b.o.Poll) && b.c.Receiver.Ready {
		b.c.Receiver.Outages = latest(append(b.c.Receiver.Outages, Span{From: now.Add(-passed), To: now}), maxOutages)
		b.dirty = true
	}
}

// LastJump returns the last jump of the clock that the contacts were moved by.
func (b *Recorder) LastJump() Jump {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now()
	return b.c.Receiver.LastJump()
}

// Run saves the contacts periodically until ctx ends, and then once more.
func (b *Recorder) Run(ctx context.Context) error {
	period := writeEvery
	if b.o.Peers != nil {
		period = shareEvery
	}
	return writeEach(ctx, max(period, b.o.Poll), b.o.Log, "contacts", func(bool) error { return b.Save() })
}

// writeEach calls write until ctx ends, and then once more with last set. It logs the
// first of several failures.
func writeEach(ctx context.Context, period time.Duration, log *slog.Logger, what string, write func(last bool) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	failed := false
	for {
		last := ctx.Err() != nil
		err := write(last)
		if err != nil && !failed {
			log.Error("cannot write to the data folder", "what", what, "err", err)
		}
		failed = err != nil
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// Save writes the contacts if they changed, or were not written for a minute.
func (b *Recorder) Save() error {
	b.saving.Lock()
	defer b.saving.Unlock()
	if err := b.reread(); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unwritten = err
		return err
	}
	if b.o.Peers != nil {
		return b.saveShared()
	}
	b.mu.Lock()
	now := b.now()
	b.noteGap(now)
	if !b.dirty && now.Sub(b.c.WrittenAt) < beatEvery {
		b.mu.Unlock()
		return nil
	}
	b.c.WrittenAt = now
	content, err := b.encode()
	b.dirty = false
	b.mu.Unlock()
	if err == nil {
		err = b.o.Docs.Save(receiver.ContactsDoc, content)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unwritten = err
	b.dirty = b.dirty || err != nil
	return err
}

// Unwritten returns the error of the last Save.
func (b *Recorder) Unwritten() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unwritten
}

// Ready records whether episodes can be accepted.
func (b *Recorder) Ready(ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, r := b.now(), &b.c.Receiver
	if ready == r.Ready {
		return
	}
	r.Ready, b.dirty = ready, true
	last := len(r.Outages) - 1
	switch {
	case !ready:
		r.Outages = latest(append(r.Outages, Span{From: now}), maxOutages)
	case last >= 0 && r.Outages[last].To.IsZero():
		if r.Outages[last].To = now; now.Equal(r.Outages[last].From) {
			r.Outages = r.Outages[:last] // empty
		}
	}
}

// Compared records the result of a comparison of rows and files.
func (b *Recorder) Compared(c receiver.Comparison) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c.Receiver.Compared, b.dirty = &c, true
}

// Heard records that a host was authenticated. until is when its certificate expires.
func (b *Recorder) Heard(h ident.Host, from, serial string, until time.Time) {
	b.change(h, func(c *Contact, now time.Time) {
		c.LastContact, c.From, c.Serial, c.CertificateUntil = now, from, serial, until.UTC()
	})
}

// Ping records a host's ping. Its text is sanitized and cut.
func (b *Recorder) Ping(h ident.Host, p wire.Ping) {
	b.change(h, func(c *Contact, now time.Time) {
		c.LastPing = now
		c.Version, c.Commit, c.Queue = check.Sanitize(p.Version, 80), p.Commit, p.Queue
		c.ClockOffset = p.Clock.Sub(now).Seconds()
		if p.Clock.IsZero() {
			c.ClockOffset = 0
		}
		c.failing(p.Failing)
		if p.OS != "" { // the ping of a host that leaves is shorter
			c.OS, c.Arch, c.Update = check.Sanitize(p.OS, 16), check.Sanitize(p.Arch, 16), plainUpdate(p.Update)
			if p.Hardware != nil { // an older version does not report it, and the machine is the same
				c.Hardware = plainHardware(*p.Hardware)
			}
		}
		switch {
		case p.Leaving && !c.Leaving:
			c.LeavingAt = now
		case !p.Leaving && c.Leaving:
			c.BackAt = now
		}
		c.Uninstalled = p.Leaving && p.Uninstalled
		if c.Leaving = p.Leaving; !p.Leaving {
			c.LeavingAt = time.Time{}
		}
		c.boot(check.Sanitize(p.BootID, 64), now)
	})
}

// Reported records the failing checks of a host's health report.
func (b *Recorder) Reported(h ident.Host, r check.Report) {
	b.change(h, func(c *Contact, _ time.Time) { c.failing(check.Failing(r.Checks)) })
}

func (c *Contact) failing(ids []string) {
	c.Failing = nil
	for _, id := range ids[:min(len(ids), 32)] {
		c.Failing = append(c.Failing, check.Sanitize(id, 64))
	}
}

// plainHardware bounds and sanitizes what a host reports of its machine.
func plainHardware(h wire.Hardware) *wire.Hardware {
	for _, text := range []*string{&h.CPU, &h.Kernel, &h.Distribution, &h.Architecture, &h.Virtualization} {
		*text = check.Sanitize(*text, 120)
	}
	h.Cores, h.RAM = min(max(h.Cores, 0), 1<<16), min(max(h.RAM, 0), 1<<50)
	return &h
}

// plainUpdate bounds and sanitizes a host's update status.
func plainUpdate(u *wire.Update) *wire.Update {
	if u == nil {
		return nil
	}
	running := func(r wire.Running) wire.Running {
		r.Version = check.Sanitize(r.Version, 100)
		return r
	}
	out := &wire.Update{Good: running(u.Good), Refused: check.Sanitize(u.Refused, 400)}
	if t := u.Trial; t != nil {
		c := *t
		c.Running, c.Phase, c.Waiting = running(t.Running), check.Sanitize(t.Phase, 20), check.Sanitize(t.Waiting, 400)
		out.Trial = &c
	}
	for _, b := range u.RolledBack[max(0, len(u.RolledBack)-wire.MaxRolledBack):] {
		b.Running, b.Why = running(b.Running), check.Sanitize(b.Why, 400)
		out.RolledBack = append(out.RolledBack, b)
	}
	return out
}

func (c *Contact) boot(id string, now time.Time) {
	if id == "" {
		return
	}
	for i, b := range c.Boots {
		if b.ID == id {
			b.Last = now
			c.Boots = append(append(c.Boots[:i:i], c.Boots[i+1:]...), b)
			return
		}
	}
	c.Boots = latest(append(c.Boots, Boot{id, now, now}), maxBoots)
}

// Accepted records that a PUT was answered 200 or 201; commit is "" without one.
func (b *Recorder) Accepted(h ident.Host, commit ident.Commit) {
	b.change(h, func(c *Contact, now time.Time) {
		c.LastAccepted, c.RefusedSince, c.RefusedCount = now, time.Time{}, 0
		if commit == "" {
			c.LastUnstamped = now
		}
	})
}

// RefusedPut records that an episode was refused permanently. It ignores other refusals,
// so that a busy receiver does not hide why an episode can never be accepted.
func (b *Recorder) RefusedPut(h ident.Host, p *wire.Problem) {
	b.change(h, func(c *Contact, now time.Time) {
		if !receiver.Permanent(p.Status) {
			return
		}
		c.LastRefused = &Refused{now, p.Status, p.Kind, check.Sanitize(p.Detail, 200)}
		c.RefusedCount++
		if c.RefusedSince.IsZero() {
			c.RefusedSince = now
		}
		if p.Kind == wire.Unstamped {
			c.LastUnstamped = now
		}
	})
}

// FailedPut records that a PUT failed because of a fault of the receiver.
func (b *Recorder) FailedPut(h ident.Host) {
	b.change(h, func(c *Contact, now time.Time) { c.LastFailed = now })
}

// AuthFailed records a request whose identity was rejected. verified reports that the
// certificate chain is valid, which proves that it was this host.
func (b *Recorder) AuthFailed(h ident.Host, verified bool, from string, p *wire.Problem) {
	b.change(h, func(c *Contact, now time.Time) {
		k := AuthFailure{At: now, Since: now, Count: 1, Kind: p.Kind, From: from, Detail: check.Sanitize(p.Detail, 200)}
		if verified {
			c.Verified = countFailure(c.Verified, k, maxAuthFailures)
		} else {
			c.Unverified = countFailure(c.Unverified, k, maxAuthFailures)
		}
	})
}

// UnknownClient records a rejected request of a client that is not in the roster.
func (b *Recorder) UnknownClient(name, from string, p *wire.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.c.UnknownClientCount++
	b.c.UnknownClients = countFailure(b.c.UnknownClients, AuthFailure{
		At: now, Since: now, Count: 1, Kind: p.Kind, From: from,
		Name: check.Sanitize(name, 80), Detail: check.Sanitize(p.Detail, 200),
	}, maxUnknownClients)
	b.dirty = true
}

// Forget removes the hosts for which keep returns false: they were decommissioned, or
// are not in the roster any more.
func (b *Recorder) Forget(keep func(ident.Host) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for h := range b.c.Hosts {
		if !keep(h) {
			delete(b.c.Hosts, h)
			b.touch(h)
		}
	}
}

// change applies f to a host's contact. Callers pass only hosts of the roster; maxHosts
// bounds memory for a roster that is too large.
func (b *Recorder) change(h ident.Host, f func(c *Contact, now time.Time)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	c := b.c.Hosts[h]
	if c == nil {
		if len(b.c.Hosts) >= b.mostHosts() {
			return
		}
		c = &Contact{}
		b.c.Hosts[h] = c
	}
	f(c, now)
	b.touch(h)
}

// countFailure appends a failure. If there is one of the same kind and name, it continues
// that one.
func countFailure(all []AuthFailure, k AuthFailure, limit int) []AuthFailure {
	for i, old := range all {
		if old.Kind == k.Kind && old.Name == k.Name {
			k.Since, k.Count = old.Since, old.Count+k.Count
			all = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	return latest(append(all, k), limit)
}

// latest returns the last n elements.
func latest[T any](all []T, n int) []T {
	if len(all) > n {
		return append([]T(nil), all[len(all)-n:]...)
	}
	return all
}
