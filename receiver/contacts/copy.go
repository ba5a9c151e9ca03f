package contacts

import (
	"maps"
	"slices"
)

// Copy returns the book as it is now, which its file is seconds later. The
// caller may keep it: what the book changes afterwards does not show in it.
func (b *Recorder) Copy() Contacts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.c
	c.Receiver.Outages = slices.Clone(c.Receiver.Outages)
	c.UnknownClients = slices.Clone(c.UnknownClients)
	c.Hosts = maps.Clone(c.Hosts)
	for h, k := range c.Hosts {
		// The lists in it are only ever replaced or grown behind their end.
		one := *k
		c.Hosts[h] = &one
	}
	return c
}
