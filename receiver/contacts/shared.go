package contacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/clock"
	"cis490/internal/ident"
	"cis490/receiver"
)

// Several receivers publish their contacts for each other: what each knows of a host, when one
// of its requests came, and the rest as its book. A host's contact is then the newest of all.
const (
	sharedPrefix = "contacts/"
	BookKey      = sharedPrefix + "@receiver" // of the book
)

// How often several receivers publish, and read what the others published, after how long without
// a sign of life a receiver counts as away, and how far two clocks may differ before times are moved.
const (
	shareEvery = time.Second
	lostAfter  = 30 * time.Second
	clockNoise = 5 * time.Second
)

// published is what a receiver knows of a host.
type published struct {
	V         int       `json:"v"`
	WrittenAt time.Time `json:"written_at"` // by the receiver's clock, as all its times
	Contact
}

// shared is what all receivers published.
type shared struct {
	reader receiver.PeerReader
	self   string
	books  map[string]Contacts // without hosts, by receiver
	hosts  map[ident.Host]*Contact
}

func newShared(p receiver.Peers) *shared {
	return &shared{reader: p.Follow(sharedPrefix), self: p.Self(), books: map[string]Contacts{}}
}

// read reads what changed, in the time of this machine's clock. hosts has only the contacts
// that changed. Values that cannot be decoded are skipped: a newer version may have them.
func (s *shared) read(now func() time.Time) error {
	s.hosts = map[ident.Host]*Contact{}
	var all []receiver.Published
	common, err := s.reader.Read(func() { clear(s.books) }, func(p receiver.Published) { all = append(all, p) })
	if err != nil {
		return err
	}
	ahead := common.Sub(now())
	for _, p := range all {
		name := strings.TrimPrefix(p.Key, sharedPrefix)
		if p.Key == BookKey {
			var c Contacts
			if json.Unmarshal(p.Content, &c) == nil {
				c.adjust(p.Saved.Sub(c.WrittenAt)-ahead, now())
				s.books[p.Receiver] = c
			}
			continue
		}
		var x published
		host, err := ident.ParseHost(name)
		if err != nil || json.Unmarshal(p.Content, &x) != nil {
			continue
		}
		c := Contacts{WrittenAt: x.WrittenAt, Hosts: map[ident.Host]*Contact{host: &x.Contact}}
		c.adjust(p.Saved.Sub(x.WrittenAt)-ahead, now())
		s.hosts[host] = merge(s.hosts[host], c.Hosts[host])
	}
	return nil
}

// adjust moves all times by how far the clock of another machine is behind this one.
func (c *Contacts) adjust(by time.Duration, now time.Time) {
	if by.Abs() > clockNoise {
		c.move(clock.Shift{Before: by, After: by})
	}
	if c.WrittenAt.After(now) {
		c.WrittenAt = now
	}
	c.Receiver.Clock = clock.Line{}
}

// list returns the receivers' books, the newest last.
func (s *shared) list() []Contacts {
	all := make([]Contacts, 0, len(s.books))
	for _, c := range s.books {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Contacts) int { return a.WrittenAt.Compare(b.WrittenAt) })
	return all
}

// summarize adds to a receiver's own book what concerns all receivers.
func (c *Contacts) summarize(books []Contacts, now time.Time) {
	c.Receiver.Outages = unavailable(books, now)
	for _, x := range books {
		if c.BeganAt.IsZero() || !x.BeganAt.IsZero() && x.BeganAt.Before(c.BeganAt) {
			c.BeganAt = x.BeganAt
		}
		c.WrittenAt = later(c.WrittenAt, x.WrittenAt)
		if r := x.Receiver.Compared; r != nil && (c.Receiver.Compared == nil || r.At.After(c.Receiver.Compared.At)) {
			c.Receiver.Compared = r
		}
	}
}

// Of returns the contacts that a backend has, in the time of this machine's clock: of one
// receiver as it wrote them last, of several receivers what all of them published.
func Of(b receiver.Backend, now clock.Reading) (Contacts, error) {
	if b.Peers == nil {
		c, err := Read(b.Docs)
		c.Bridge(now)
		return c, err
	}
	s := newShared(b.Peers)
	if err := s.read(func() time.Time { return now.Wall }); err != nil {
		return Contacts{Hosts: map[ident.Host]*Contact{}}, fmt.Errorf("read contacts: %w", err)
	}
	c := s.books[s.self]
	c.V, c.Hosts, c.UnknownClients, c.UnknownClientCount = 1, s.hosts, nil, 0
	books := s.list()
	c.summarize(books, now.Wall)
	for _, x := range books {
		c.UnknownClientCount += x.UnknownClientCount
		for _, k := range x.UnknownClients {
			c.UnknownClients = countFailure(c.UnknownClients, k, maxUnknownClients)
		}
	}
	return c, nil
}

// Move copies the contacts between a document and what receivers publish. Otherwise it does
// nothing: the document is copied with the others.
func Move(from, to receiver.Backend, now clock.Reading) error {
	if (from.Peers == nil) == (to.Peers == nil) {
		return nil
	}
	c, err := Of(from, now)
	if err != nil {
		return err
	}
	if to.Peers == nil {
		c.Receiver.Clock = clock.Line{Mark: now}
		content, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return to.Docs.Save(receiver.ContactsDoc, content)
	}
	if c.WrittenAt.IsZero() {
		return nil
	}
	if c.Receiver.Ready { // serve stopped long ago, and its book is as of now
		c.Receiver.Outages = latest(append(c.Receiver.Outages, Span{From: c.WrittenAt}), maxOutages)
	}
	hosts := c.Hosts
	c.Hosts, c.WrittenAt, c.Receiver.Ready = nil, now.Wall, false
	values := map[string][]byte{}
	if values[BookKey], err = json.Marshal(c); err != nil {
		return err
	}
	for h, x := range hosts {
		if values[sharedPrefix+string(h)], err = json.Marshal(published{1, now.Wall, *x}); err != nil {
			return err
		}
	}
	return to.Peers.Publish(values)
}

// loadShared reads what all receivers published, this one's own book included.
func (b *Recorder) loadShared() (Contacts, error) {
	s := newShared(b.o.Peers)
	if err := s.read(b.o.Now); err != nil {
		return Contacts{V: 1, Hosts: map[ident.Host]*Contact{}}, fmt.Errorf("read contacts: %w", err)
	}
	b.shared = s
	c := s.books[s.self]
	c.V, c.Hosts = 1, s.hosts
	return c, nil
}

func (b *Recorder) saveShared() error { return errors.Join(b.publish(), b.follow()) }

// touch notes that a host's contact changed. The caller holds mu.
func (b *Recorder) touch(h ident.Host) {
	delete(b.encoded, h)
	if b.dirty = true; b.o.Peers != nil {
		b.changed[h] = true
	}
}

// mostHosts is larger for several receivers, whose contacts are not one document.
func (b *Recorder) mostHosts() int {
	if b.o.Peers != nil {
		return 10 * maxHosts
	}
	return maxHosts
}

// follow adds what other receivers published.
func (b *Recorder) follow() error {
	if err := b.shared.read(b.o.Now); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now()
	for h, c := range b.shared.hosts {
		old := b.c.Hosts[h]
		if b.c.Hosts[h] = merge(old, c); b.o.Heard != nil && (old == nil || c.LastPing.After(old.LastPing)) {
			b.o.Heard(h, *b.c.Hosts[h])
		}
	}
	b.books = b.shared.list()
	return nil
}

// publish publishes this receiver's book, and the hosts that changed.
func (b *Recorder) publish() error {
	b.mu.Lock()
	now := b.now()
	b.noteGap(now)
	b.c.WrittenAt = now
	book := b.c
	book.Hosts = nil
	values, changed := map[string][]byte{}, b.changed
	b.changed = map[ident.Host]bool{}
	var err error
	add := func(key string, v any) {
		content, e := json.Marshal(v)
		values[key] = content
		if err == nil {
			err = e
		}
	}
	add(BookKey, book)
	for h := range changed {
		values[sharedPrefix+string(h)] = nil // forgotten
		if c := b.c.Hosts[h]; c != nil {
			add(sharedPrefix+string(h), published{1, now, *c})
		}
	}
	b.dirty = false
	b.mu.Unlock()
	if err == nil {
		err = b.o.Peers.Publish(values)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unwritten = err
	if err != nil {
		for h := range changed {
			b.changed[h] = true
		}
	}
	return err
}
