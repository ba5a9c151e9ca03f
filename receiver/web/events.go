package web

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"cis490/internal/wire"
)

// How often a live page is told to look again: soon where something is wrong or
// right again, else seldom.
const (
	lookEvery  = time.Second
	calmEvery  = 10 * time.Second
	maxStreams = 64
)

// streams are the live pages.
type streams struct {
	mu     sync.Mutex
	open   int
	ended  bool
	closed chan struct{}
}

func (t *streams) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.open >= maxStreams {
		return false
	}
	t.open++
	return true
}

func (t *streams) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
}

func (t *streams) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended = true
		close(t.closed)
	}
}

// events tells a page when it is old. It carries no data: the page asks for
// itself anew, so there is one way to render.
func (s *Site) events(w http.ResponseWriter, r *http.Request) error {
	if !s.streams.enter() {
		return wire.NewProblem(wire.Busy, "%d pages are live already", maxStreams)
	}
	defer s.streams.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	_, session, _ := s.session(r)
	var seen uint64
	var told time.Time
	for {
		m, err := s.model()
		if err != nil {
			return fmt.Errorf("%w: %w", errSent, err)
		}
		now := s.o.Now()
		if mark := m.mark(); mark != seen || now.Sub(told) >= calmEvery {
			if _, err := fmt.Fprintf(w, "event: change\ndata: %d\n\n", now.UnixMilli()); err != nil {
				return nil // the page was closed
			}
			if err := out.Flush(); err != nil {
				return nil // as above
			}
			seen, told = mark, now
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-s.streams.closed:
			return nil
		case <-tick.C:
		}
		if token, err := s.token(); err != nil || session != "" && !validSession(token, session, s.o.Now()) {
			return nil // the page will be asked to sign in
		}
	}
}

// mark changes when something is wrong that was not, or no longer is.
func (m *model) mark() uint64 {
	h := fnv.New64a()
	for _, a := range m.Alerts {
		_, _ = fmt.Fprintf(h, "%s %s %t\n", a.Host, a.Symptom, a.Silenced) // never fails
	}
	for _, x := range m.Hosts {
		_, _ = fmt.Fprintf(h, "%s %s\n", x.Name, x.Health)
	}
	_, _ = fmt.Fprint(h, m.Missing, m.Counting)
	return h.Sum64()
}
