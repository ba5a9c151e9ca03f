package web

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"cis490/internal/wire"
)

// How often the state is compared, and when a page is asked to refresh without a change.
const (
	compareEvery = time.Second
	refreshEvery = 10 * time.Second
	maxStreams   = 64
)

// streams counts the open streams of events.
type streams struct {
	mu     sync.Mutex
	open   int
	ended  bool
	closed chan struct{}
}

func (t *streams) acquire() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.open >= maxStreams {
		return false
	}
	t.open++
	return true
}

func (t *streams) release() {
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

// events announces that the state changed. It carries no data: the page asks for its
// changed parts, so there is one way to render.
func (s *Site) events(w http.ResponseWriter, r *http.Request) error {
	if !s.streams.acquire() {
		return wire.NewProblem(wire.Busy, "%d pages are open already", maxStreams)
	}
	defer s.streams.release()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	var seen uint64
	var sent time.Time
	for {
		m, err := s.model()
		if err != nil {
			return fmt.Errorf("%w: %w", errSent, err)
		}
		now := s.o.Now()
		if mark := m.mark(); mark != seen || now.Sub(sent) >= refreshEvery {
			if _, err := fmt.Fprintf(w, "event: change\ndata: %d\n\n", now.UnixMilli()); err != nil {
				return nil // the page was closed
			}
			if err := out.Flush(); err != nil {
				return nil // as above
			}
			seen, sent = mark, now
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-s.streams.closed:
			return nil
		case <-tick.C:
		}
		if _, ok := s.token(r); !ok {
			return nil // the session ended, or the token was revoked; the page has to sign in
		}
	}
}

// mark changes when an alert opens or resolves, or a state changes.
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
