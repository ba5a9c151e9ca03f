package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// How often the server checks itself, how long a result stays valid, and how long a call
// may wait for the disk before serve counts as stuck.
const (
	watchEvery = 5 * time.Second
	lookEvery  = time.Second
	lookWait   = time.Second // balancers do not wait longer for /readyz
	stuckAfter = 150 * time.Second
)

// forgetEvery is how often contacts of removed hosts are deleted.
const forgetEvery = time.Hour

// health is the result of the last check.
type health struct {
	mu      sync.Mutex
	at      time.Time
	missing []condition
	running chan struct{} // closed when the check in progress ends; nil: there is none
	began   time.Time     // of that check
	again   bool          // its result is outdated already
}

// forget makes the next call check again.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.again = time.Time{}, h.running != nil
}

// condition is an unmet condition for accepting episodes.
type condition struct {
	what string
	why  error
	some bool // concerns only some episodes
}

func (l condition) String() string { return fmt.Sprintf("%s: %s", l.what, l.why) }

// NotReady returns why the receiver cannot accept episodes; empty means ready. It writes
// to the disk at most once a second. It waits until a check has had a second to get an answer.
func (s *Server) NotReady() []string {
	if done, began := s.look(); done != nil {
		timer := time.NewTimer(time.Until(began.Add(lookWait)))
		select {
		case <-done:
		case <-timer.C:
		}
		timer.Stop()
	}
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if s.health.running != nil && len(s.health.missing) == 0 {
		s.health.missing = []condition{{what: "storage", why: fault.Fix(
			fmt.Errorf("no answer for %s", time.Since(s.health.began).Round(time.Second)),
			"sudo cis490 doctor --only ledger.postgres,store.bucket,disk.reserve")}}
	}
	var missing []string
	for _, l := range s.health.missing {
		missing = append(missing, l.String())
	}
	if s.stopping.Load() {
		missing = append(missing, "serve is stopping")
	}
	return missing
}

// look begins a check unless the last one is recent, and returns what is closed when it ends, and
// when it began. One check runs at a time: while storage does not answer, requests must not queue
// behind it.
func (s *Server) look() (running <-chan struct{}, began time.Time) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running != nil {
		return h.running, h.began
	}
	if !h.at.IsZero() && s.o.Now().Sub(h.at).Abs() < lookEvery {
		return nil, time.Time{}
	}
	done := make(chan struct{})
	h.running, h.began = done, time.Now()
	go func() {
		missing := s.checkReady()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.missing, h.at = missing, s.o.Now(); h.again {
			h.at = time.Time{}
		}
		h.running, h.again = nil, false
		close(done)
	}()
	return done, h.began
}

// able reports whether the last check found no condition that concerns all episodes.
func (s *Server) able() bool {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return !slices.ContainsFunc(s.health.missing, func(l condition) bool { return !l.some }) && !s.stopping.Load()
}

// fix returns the fix of the first unmet condition, if it has one.
func (s *Server) fix() string {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	for _, l := range s.health.missing {
		if fix := fault.FixOf(l.why); fix != "" {
			return "on the receiver: " + fix
		}
	}
	return ""
}

func (s *Server) checkReady() []condition {
	var missing []condition
	add := func(what string, err error) {
		if err != nil {
			missing = append(missing, condition{what, s.o.Backend.Explain(err), false})
		}
	}
	if s.pair != nil {
		// A certificate that is loaded works even if its file is damaged.
		if cert, err := s.pair.get(); cert == nil {
			add("server certificate", err)
		} else if now := s.o.Now(); now.After(cert.Leaf.NotAfter) {
			add("server certificate", fmt.Errorf("expired at %s", plain.Time(cert.Leaf.NotAfter)))
		}
	}
	_, err := s.trust.Get()
	add("trusted CA", err)
	_, _, err = s.o.Roster.Host("none")
	add("roster", err)
	if l := s.closed.Load(); l != nil {
		return append(missing, *l)
	}
	_, err = s.o.Gate.Rules()
	add("gate", err)
	for _, c := range s.store.Conditions(s.failures.uploads()) {
		add(c.What, c.Err)
	}
	some := s.failures.conditions(len(missing) > 0, s.o.Now())
	// fleet-check judges hosts by these records.
	some = append(some, condition{"contacts", s.contacts.Unwritten(), true}, condition{"rejections", s.rejections.Unwritten(), true})
	for _, l := range some {
		if l.why != nil {
			missing = append(missing, condition{l.what, s.o.Backend.Explain(l.why), true})
		}
	}
	return missing
}

// watch checks periodically: it logs unmet conditions, records them for fleet-check, and
// retries what can recover. It calls begin once the files are open.
func (s *Server) watch(ctx context.Context, begin func()) error {
	tick := time.NewTicker(max(lookEvery, s.o.Poll))
	defer tick.Stop()
	said := "nothing yet"
	for begun := false; ; {
		if !begun && (s.opened() || s.open() == nil) {
			begun = true
			tick.Reset(max(watchEvery, s.o.Poll))
			begin()
		}
		missing := s.NotReady()
		if err := s.alive(); err == nil {
			s.notify("WATCHDOG=1")
		} else {
			s.o.Log.Error("stuck", "err", err)
		}
		if begun {
			s.contacts.Ready(s.able())
			s.bridgeSilences()
		}
		// Log when the conditions change, not when a number in them does.
		what := s.missingNames()
		switch {
		case what == said:
		case len(missing) > 0:
			s.o.Log.Warn("not ready, waiting", "missing", strings.Join(missing, "; "), "fix", s.fix())
			s.notify("STATUS=not ready: " + strings.Join(missing, "; "))
		default:
			s.o.Log.Info("ready", "addr", s.Addr().String(), "store", s.store.ID())
			s.notify("STATUS=ready")
		}
		said = what
		select {
		case <-ctx.Done():
			return nil
		case <-s.recheck:
		case <-tick.C:
		}
	}
}

// forget periodically removes the contacts of hosts that are not in the roster any more,
// or were decommissioned.
func (s *Server) forget(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		s.contacts.Forget(func(h ident.Host) bool {
			entry, known, err := s.o.Roster.Host(h)
			return err != nil || known && entry.State != roster.Gone
		})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Server) missingNames() string {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	var names []string
	for _, l := range s.health.missing {
		names = append(names, l.what)
	}
	return strings.Join(names, ", ")
}

// alive reports whether work that waits for the disk advances. Waiting for work counts as
// alive.
func (s *Server) alive() error {
	if !s.opened() {
		return nil
	}
	s.health.mu.Lock()
	looks := s.health.running != nil
	began := s.health.began
	s.health.mu.Unlock()
	if looks && time.Since(began) > stuckAfter {
		return fmt.Errorf("a check of the storage has not ended for %s", time.Since(began).Round(time.Second))
	}
	if w := s.store.Waiting(s.o.Now()); w > stuckAfter {
		return fmt.Errorf("the disk has not answered for %s", w)
	}
	return nil
}

func (s *Server) getHealthz(w http.ResponseWriter, _ *http.Request) error {
	if s.leaving.Load() {
		return wire.NewProblem(wire.NotReady, "serve is stopping")
	}
	return answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) getReadyz(w http.ResponseWriter, r *http.Request) error {
	if s.leaving.Load() {
		return s.getHealthz(w, r)
	}
	if missing := s.NotReady(); len(missing) > 0 {
		p := wire.NewProblem(wire.NotReady, "%s", strings.Join(missing, "; "))
		p.RetryAfter = 5
		if fix := s.fix(); fix != "" {
			p.Fix = fix
		}
		return p
	}
	return answer(w, http.StatusOK, map[string]string{"status": "ready"})
}
