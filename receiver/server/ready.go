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
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// How often the server looks at itself, how long an answer about that is good,
// and how long a call may wait for the disk before serve counts as stuck.
const (
	watchEvery = 5 * time.Second
	lookEvery  = time.Second
	stuckAfter = 150 * time.Second
)

// forgetEvery is how often contacts of hosts that left are dropped.
const forgetEvery = time.Hour

// When rows and files are compared as a whole.
const (
	compareFirst = time.Minute
	compareEvery = 24 * time.Hour
)

// health is what the last look found.
type health struct {
	mu      sync.Mutex
	at      time.Time
	missing []condition
}

// forget makes the next question look anew.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = time.Time{}
}

// condition is a thing without which no episode can be taken.
type condition struct {
	what string
	why  error
	some bool // other episodes can be taken all the same
}

func (l condition) String() string { return fmt.Sprintf("%s: %s", l.what, l.why) }

// Missing tells what keeps the receiver from taking episodes; nothing means
// that it is ready. The disk is written to at most once a second for it.
func (s *Server) NotReady() []string {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if now := s.o.Now(); s.health.at.IsZero() || now.Sub(s.health.at).Abs() >= lookEvery {
		s.health.missing, s.health.at = s.checkReady(), now
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

// able reports whether the last look found nothing that every episode needs.
func (s *Server) able() bool {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return !slices.ContainsFunc(s.health.missing, func(l condition) bool { return !l.some }) && !s.stopping.Load()
}

// fix is what mends the first of what is missing, as far as that is known.
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
	conditions := func(what string, err error) {
		if err != nil {
			missing = append(missing, condition{what, s.o.Backend.Explain(err), false})
		}
	}
	if s.pair != nil {
		// A certificate that is still held works, though its file may not.
		if cert, err := s.pair.get(); cert == nil {
			conditions("server certificate", err)
		} else if now := s.o.Now(); now.After(cert.Leaf.NotAfter) {
			conditions("server certificate", fmt.Errorf("ended at %s", cert.Leaf.NotAfter.Format(time.RFC3339)))
		}
	}
	_, err := s.trust.Get()
	conditions("trusted CA", err)
	_, _, err = s.o.Roster.Host("none")
	conditions("roster", err)
	if l := s.closed.Load(); l != nil {
		return append(missing, *l)
	}
	_, err = s.o.Gate.Rules()
	conditions("gate", err)
	for _, c := range s.store.Conditions(s.failures.uploads()) {
		conditions(c.What, c.Err)
	}
	some := s.failures.conditions(len(missing) > 0, s.o.Now())
	// What serve notes of its hosts is what fleet-check judges them by.
	some = append(some, condition{"contacts", s.contacts.Unwritten(), true}, condition{"rejections", s.rejections.Unwritten(), true})
	for _, l := range some {
		if l.why != nil {
			missing = append(missing, condition{l.what, s.o.Backend.Explain(l.why), true})
		}
	}
	return missing
}

// watch looks from time to time, so that what is missing is said in the log and
// noted for fleet-check, and so that what can mend itself does. begin is called
// once the files are open.
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
		// Said when other things are missing, not when a figure changed.
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

// forget drops, from time to time, what is noted of hosts that the roster has lost
// or that were decommissioned; one that knocks again is noted again.
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

// count counts what is stored of each host, for the quotas.
func (s *Server) count(ctx context.Context) error {
	if err := s.quotas.count(ctx, s.o.Backend.Index, s.began); err != nil {
		s.o.Log.Error("host_quota holds for new episodes only, until serve is started again", "err", err)
	}
	return nil
}

// compare compares all rows with all files from time to time, beside the work.
func (s *Server) compare(ctx context.Context) error {
	next := time.NewTimer(compareFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		found, err := s.store.Compare(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.o.Log.Error("rows and files are not compared", "err", err)
		case found.NoFile > 0:
			s.o.Log.Error("rows without their file: their hosts send them again when they reconcile", "count", found.NoFile, "episode", found.First)
		default:
			s.o.Log.Info("rows and files compared", "rows", found.Rows, "files", found.Files, "repaired", found.Repaired)
		}
		if err == nil {
			s.contacts.Compared(found)
		}
		next.Reset(compareEvery)
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

// alive tells whether work that waits for the disk still advances; waiting for
// work counts as alive.
func (s *Server) alive() error {
	if !s.opened() {
		return nil
	}
	if w := s.store.Waiting(s.o.Now()); w > stuckAfter {
		return fmt.Errorf("the disk has not answered for %s", w)
	}
	return nil
}

func (s *Server) getHealthz(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) getReadyz(w http.ResponseWriter, _ *http.Request) error {
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
