package contacts

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/receiver"
)

// DamagedDoc is a copy of contacts.json that could not be decoded.
const DamagedDoc = receiver.ContactsDoc + ".damaged"

// ErrDamaged reports contacts that were read but cannot be decoded.
var ErrDamaged = errors.New("cannot decode it")

// Open reads the file. It keeps a file that cannot be decoded as DamagedDoc and begins with
// no contacts. While the file cannot be read, the Recorder keeps the contacts in memory:
// each Save tries to read it again, and only then writes it.
func Open(o Options) *Recorder {
	if o.Clock == nil {
		o.Clock = clock.Wall(o.Now)
	}
	b := &Recorder{o: o, dirty: true, changed: map[ident.Host]bool{}}
	b.c, b.unread = b.load()
	if b.unread != nil {
		b.unwritten = b.unread
		o.Log.Error("cannot read contacts; not writing them until they can be read", "err", b.unread)
	}
	now := b.now()
	b.c.resume(now)
	b.c.Receiver.Version = o.Version
	return b
}

// load reads the file. It returns an error for a file that must not be overwritten.
func (b *Recorder) load() (Contacts, error) {
	if b.o.Peers != nil {
		return b.loadShared()
	}
	c, err := Read(b.o.Docs)
	if !errors.Is(err, ErrDamaged) {
		return c, err
	}
	content, err2 := b.o.Docs.Load(receiver.ContactsDoc, maxFile)
	if err2 == nil {
		err2 = b.o.Docs.Save(DamagedDoc, content)
	}
	if err2 != nil {
		return c, fmt.Errorf("%w; keep a copy: %w", err, err2)
	}
	b.o.Log.Error("cannot decode contacts; beginning without", "err", err, "copy", DamagedDoc)
	return c, nil
}

// reread reads the file if Open could not, and adds what was recorded since. The caller
// holds saving.
func (b *Recorder) reread() error {
	if b.unread == nil {
		return nil
	}
	c, err := b.load()
	if err != nil {
		b.unread = err
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now()
	now := b.o.Clock()
	opened := now // what the file has is older than all that was recorded since Open
	opened.Wall = b.c.Receiver.Clock.Start
	opened.Up -= now.Wall.Sub(opened.Wall)
	c.Bridge(opened)
	c.Bridge(now)
	c.resume(b.c.Receiver.StartedAt)
	c.add(b.c)
	if len(c.Hosts) > b.mostHosts() {
		c.Hosts = b.c.Hosts
	}
	b.c, b.unread, b.dirty, b.encoded = c, nil, true, nil
	b.o.Log.Info("contacts can be read again")
	return nil
}

// resume continues the contacts of an earlier serve. From its last write on until serve is
// ready, nothing was accepted.
func (c *Contacts) resume(now time.Time) {
	switch r := &c.Receiver; {
	case c.WrittenAt.IsZero(): // the first start is an outage until it is ready
		c.BeganAt, r.Outages = now, append(r.Outages, Span{From: now})
	case r.Ready:
		r.Outages = append(r.Outages, Span{From: c.WrittenAt})
	}
	c.V, c.Receiver.StartedAt, c.Receiver.Ready = 1, now, false
}

// add adds what the serve that resumed c has recorded without c.
func (c *Contacts) add(n Contacts) {
	own := n.Receiver.Outages
	last := &c.Receiver.Outages[len(c.Receiver.Outages)-1] // resume left it open
	if len(own) > 0 && own[0].From.Equal(n.BeganAt) {
		last.To, own = own[0].To, own[1:]
	} else {
		last.To = n.BeganAt // serve was ready at once
	}
	c.Receiver.Outages = latest(append(c.Receiver.Outages, own...), maxOutages)
	c.Receiver.Version, c.Receiver.Ready = n.Receiver.Version, n.Receiver.Ready
	c.Receiver.Compared = cmp.Or(n.Receiver.Compared, c.Receiver.Compared)
	for _, k := range n.UnknownClients {
		c.UnknownClients = countFailure(c.UnknownClients, k, maxUnknownClients)
	}
	c.UnknownClientCount += n.UnknownClientCount
	for h, k := range n.Hosts {
		if old := c.Hosts[h]; old != nil {
			k = k.after(old)
		}
		c.Hosts[h] = k
	}
}

// after returns the contact with the facts of an older one that it lacks.
func (c *Contact) after(old *Contact) *Contact {
	n := *c
	if n.LastContact.IsZero() {
		n.LastContact, n.From, n.Serial, n.CertificateUntil = old.LastContact, old.From, old.Serial, old.CertificateUntil
	}
	switch {
	case n.LastPing.IsZero():
		n.LastPing, n.Version, n.Commit, n.Queue, n.ClockOffset = old.LastPing, old.Version, old.Commit, old.Queue, old.ClockOffset
		n.Failing, n.Leaving, n.LeavingAt, n.Uninstalled = old.Failing, old.Leaving, old.LeavingAt, old.Uninstalled
	case old.Leaving && !n.Leaving && n.BackAt.IsZero():
		n.BackAt = n.LastPing
		if len(c.Boots) > 0 {
			n.BackAt = c.Boots[0].First
		}
	}
	if n.OS == "" {
		n.OS, n.Arch, n.Update = old.OS, old.Arch, old.Update
	}
	n.Hardware = cmp.Or(n.Hardware, old.Hardware)
	n.BackAt = cmp.Or(n.BackAt, old.BackAt)
	n.Boots = append([]Boot(nil), old.Boots...)
	for _, boot := range c.Boots {
		n.boot(boot.ID, boot.First)
		n.boot(boot.ID, boot.Last)
	}
	if n.LastAccepted.IsZero() {
		n.LastAccepted, n.RefusedSince = old.LastAccepted, cmp.Or(old.RefusedSince, n.RefusedSince)
		n.RefusedCount += old.RefusedCount
	}
	n.LastRefused = cmp.Or(n.LastRefused, old.LastRefused)
	n.LastFailed, n.LastUnstamped = cmp.Or(n.LastFailed, old.LastFailed), cmp.Or(n.LastUnstamped, old.LastUnstamped)
	n.Verified, n.Unverified = addFailures(old.Verified, c.Verified), addFailures(old.Unverified, c.Unverified)
	return &n
}

func addFailures(all, more []AuthFailure) []AuthFailure {
	for _, k := range more {
		all = countFailure(all, k, maxAuthFailures)
	}
	return all
}
