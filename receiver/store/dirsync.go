package store

import "sync"

// dirSyncs lets those who wait for the same folder at the same time share one
// sync of it.
type dirSyncs struct {
	mu   sync.Mutex
	dirs map[string]*dirSync
}

type dirSync struct {
	running sync.Mutex
	next    *syncCall // has not begun, so it covers all that was done before now
	users   int
}

type syncCall struct {
	done chan struct{}
	err  error
}

// syncDir makes a folder's names durable. A failed sync fails for all who share
// it.
func (s *Store) syncDir(name string) error {
	g := &s.syncs
	g.mu.Lock()
	if g.dirs == nil {
		g.dirs = map[string]*dirSync{}
	}
	d := g.dirs[name]
	if d == nil {
		d = &dirSync{}
		g.dirs[name] = d
	}
	if c := d.next; c != nil {
		g.mu.Unlock()
		<-c.done
		return c.err
	}
	c := &syncCall{done: make(chan struct{})}
	d.next = c
	d.users++
	g.mu.Unlock()

	d.running.Lock()
	g.mu.Lock()
	d.next = nil // begins now: who comes later needs another
	g.mu.Unlock()
	c.err = s.o.FS.SyncDir(name)
	close(c.done)
	d.running.Unlock()

	g.mu.Lock()
	defer g.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(g.dirs, name)
	}
	return c.err
}
