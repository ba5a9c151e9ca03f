package contacts

import (
	"maps"
	"slices"
)

// Copy returns a copy of the contacts, which later changes do not affect.
func (b *Recorder) Copy() Contacts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.c
	if b.o.Peers != nil {
		c.summarize(b.books, b.o.Now())
	}
	c.Receiver.Outages = slices.Clone(c.Receiver.Outages)
	c.UnknownClients = slices.Clone(c.UnknownClients)
	all := make([]Contact, 0, len(c.Hosts)) // one allocation
	c.Hosts = maps.Clone(c.Hosts)
	for h, k := range c.Hosts {
		all = append(all, *k) // its lists may be shared: they are replaced, or grow at the end
		c.Hosts[h] = &all[len(all)-1]
	}
	return c
}
