package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver"
)

// rememberFailure is how long a failed request counts if the host does not repeat it.
// Shippers retry within 10 minutes.
const rememberFailure = 15 * time.Minute

// shownFailures is how many failures are listed.
const shownFailures = 3

// failures are requests of hosts that failed because of a fault of the receiver: the last
// one of each host and route, until it succeeds. They reveal faults that a trial of the
// disk does not, for example in one host's folder, or with large files only.
type failures struct {
	mu sync.Mutex
	by map[failureKey]*failure
}

type failureKey struct {
	host  ident.Host
	route receiver.Route
}

type failure struct {
	at      time.Time
	episode ident.EpisodeID // empty if the route has none
	err     error
	// general reports that the receiver could not accept any episodes. Such a failure
	// counts only as long as that lasts.
	general bool
}

// add records the result of a request and reports whether it is a new failure.
func (f *failures) add(n *request, err error, now time.Time) bool {
	//off:alarm_NotDurable
	k := failureKey{n.host, n.route}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		if x := f.by[k]; x != nil && x.episode == n.episode {
			delete(f.by, k)
		}
		return false
	}
	if _, refused := errors.AsType[*wire.Problem](err); refused {
		return false // a refusal, which is a valid answer
	}
	if ofStorage(err) {
		return false // its own condition; the host may succeed at another receiver
	}
	if f.by == nil {
		f.by = map[failureKey]*failure{}
	}
	_, known := f.by[k]
	f.by[k] = &failure{at: now, episode: n.episode, err: err}
	return !known
}

// ofStorage reports whether an error is of the storage as a whole.
func ofStorage(err error) bool {
	return errors.Is(err, receiver.ErrBusy) || errors.Is(err, receiver.ErrUnready) || errors.Is(err, receiver.ErrUnavailable)
}

// uploads reports whether one of the failures is an upload.
func (f *failures) uploads() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.by {
		if k.route == receiver.RouteEpisode {
			return true
		}
	}
	return false
}

// conditions returns the failures that a general fault does not explain, and removes
// those that ended.
func (f *failures) conditions(general bool, now time.Time) (all []condition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, x := range f.by {
		switch {
		case general:
			x.general = true
		case x.general, now.Sub(x.at).Abs() > rememberFailure:
			delete(f.by, k)
		default:
			why := fmt.Errorf("failed at %s: %w", plain.Time(x.at), x.err)
			all = append(all, condition{fmt.Sprintf("%s of %s", k.route, k.host), why, true})
		}
	}
	slices.SortFunc(all, func(a, b condition) int { return cmp.Compare(a.what, b.what) })
	if n := len(all) - shownFailures; n > 0 {
		all = append(all[:shownFailures], condition{"and others", fmt.Errorf("%d more requests failed", n), true})
	}
	return all
}

// recordEnd records the result of a host's request.
func (s *Server) recordEnd(n *request, err error) {
	if n.route == "" || !n.identified {
		return
	}
	if ofStorage(err) { // a balancer must not get an answer from before
		s.health.forget()
	}
	if s.failures.add(n, err, s.o.Now()) {
		s.health.forget()
		select {
		case s.recheck <- struct{}{}:
		default:
		}
	}
	if n.route != receiver.RouteEpisode || err == nil {
		return
	}
	if p := problemOf(err); p.Status >= http.StatusInternalServerError && p.Kind != wire.Quota {
		s.contacts.FailedPut(n.host)
	}
}
