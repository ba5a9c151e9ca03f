package listen

import "sync"

// turns is a semaphore that serves waiting addresses in turn, so that an address with few
// connections does not wait behind one with many.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{} // by address, in order of arrival
	order   []string                   // waiting addresses
}

func newTurns(places int) *turns {
	return &turns{free: places, waiting: map[string][]chan struct{}{}}
}

// take waits for a turn.
func (t *turns) take(source string) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if len(t.waiting[source]) == 0 {
		t.order = append(t.order, source)
	}
	t.waiting[source] = append(t.waiting[source], mine)
	t.mu.Unlock()
	<-mine
}

// give ends a turn; the next waiting address gets it.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	source := t.order[0]
	t.order = t.order[1:]
	next := t.waiting[source]
	if len(next) > 1 {
		t.waiting[source] = next[1:]
		t.order = append(t.order, source)
	} else {
		delete(t.waiting, source)
	}
	close(next[0])
}
