package ship

import (
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/agent/spool"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// phase is the next or current step of an episode in the queue.
type phase int

const (
	waiting phase = iota
	packing
	packed
	sending
	retiring
)

// class divides episodes by size. Each class has its own packing and sending worker, so
// that a small episode never waits for a large one.
type class int

const (
	small class = iota
	large
)

// smallBytes is the largest size on disk of a small episode, which packs within seconds.
const smallBytes = 64 << 20

func (c class) String() string { return [...]string{"small", "large"}[c] }

// most returns the limit in bytes for packing an episode of the class; 0 means unlimited.
func (c class) most() int64 {
	if c == small {
		return smallBytes
	}
	return 0
}

func classOf(bytes int64) class {
	if bytes > smallBytes {
		return large
	}
	return small
}

// entry is an episode in the queue.
type entry struct {
	id        ident.EpisodeID
	phase     phase
	class     class
	commit    ident.Commit
	bytes     int64
	tarball   spool.Tarball
	repack    bool          // its tarball arrived damaged
	aside     *spool.Reason // to quarantine for this reason; the last attempt failed
	noted     bool          // its receipt is durable; only the move to shipped/ is left
	asked     bool          // its commit is held, and the receiver was asked whether it is stored
	attempts  int
	notBefore time.Time
}

// queue holds the waiting episodes, oldest first. It lives in memory and is rebuilt from
// the disk at start.
type queue struct {
	mu        sync.Mutex
	byID      map[ident.EpisodeID]*entry
	order     []*entry
	holds     map[ident.Commit]spool.Hold
	recording int
	wake      map[chan struct{}]bool
}

// maxAhead bounds the tarballs of a class that are packed before they can be sent, because
// each takes disk space beside its directory.
const maxAhead = 8

func newQueue() *queue {
	return &queue{byID: map[ident.EpisodeID]*entry{}, holds: map[ident.Commit]spool.Hold{}, wake: map[chan struct{}]bool{}}
}

// watch returns a channel that gets a value when the queue changes.
func (q *queue) watch() chan struct{} {
	c := make(chan struct{}, 1)
	q.mu.Lock()
	q.wake[c] = true
	q.mu.Unlock()
	return c
}

// changed wakes all watchers. The caller holds mu.
func (q *queue) changed() {
	for c := range q.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (q *queue) poke() {
	q.mu.Lock()
	q.changed()
	q.mu.Unlock()
}

func (q *queue) knows(id ident.EpisodeID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byID[id] != nil
}

// add appends an episode, unless the queue has it already.
func (q *queue) add(id ident.EpisodeID, it spool.Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byID[id] != nil {
		return
	}
	e := &entry{id: id, commit: it.Commit, bytes: it.Bytes, class: classOf(it.Bytes)}
	q.byID[id] = e
	at := len(q.order)
	if at > 0 && q.order[at-1].id > id {
		at, _ = slices.BinarySearchFunc(q.order, id, func(e *entry, id ident.EpisodeID) int { return strings.Compare(string(e.id), string(id)) })
	}
	q.order = slices.Insert(q.order, at, e)
	q.changed()
}

// drop removes an episode from the queue.
func (q *queue) drop(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	byID := func(e *entry, id ident.EpisodeID) int { return strings.Compare(string(e.id), string(id)) }
	if at, ok := slices.BinarySearchFunc(q.order, e.id, byID); ok {
		q.order = slices.Delete(q.order, at, at+1)
	}
	delete(q.byID, e.id)
	q.changed()
}

// set moves an episode to another phase, where no worker takes it before notBefore.
func (q *queue) set(e *entry, to phase, notBefore time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.phase, e.notBefore = to, notBefore
	q.changed()
}

// grow moves an episode to the large class, because it grew after it was added.
func (q *queue) grow(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.class, e.phase, e.bytes = large, waiting, max(e.bytes, smallBytes+1)
	q.changed()
}

// take moves the next episode of a class from one phase to another and returns it. With no
// such episode it returns when to try again; zero means after the next change.
func (q *queue) take(now time.Time, c class, from, to phase) (*entry, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var soonest time.Time
	ahead := 0
	for _, e := range q.order {
		if e.class != c || q.isHeld(e) {
			continue
		}
		later := e.notBefore.After(now)
		// Episodes that cannot be sent now must not block packing others.
		if e.phase == sending || e.phase == packed && !later {
			if ahead++; from == waiting && ahead >= maxAhead {
				return nil, time.Time{}
			}
		}
		if e.phase != from {
			continue
		}
		if later {
			if soonest.IsZero() || e.notBefore.Before(soonest) {
				soonest = e.notBefore
			}
			continue
		}
		e.phase, e.asked = to, false
		return e, time.Time{}
	}
	return nil, soonest
}

// has reports whether an episode of a class is in a phase.
func (q *queue) has(c class, p phase) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.order, func(e *entry) bool { return e.class == c && e.phase == p })
}

func (q *queue) isHeld(e *entry) bool {
	if len(q.holds) == 0 {
		return false
	}
	_, held := q.holds[e.commit]
	//off:01_RefusedForEver
	return held && !e.noted
}

// unasked returns the held episodes about which the receiver was not asked yet.
func (q *queue) unasked() (all []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.order {
		if !e.asked && q.isHeld(e) && (e.phase == waiting || e.phase == packed) {
			all = append(all, e)
		}
	}
	return all
}

// markAsked records that the receiver was asked about an episode.
func (q *queue) markAsked(id ident.EpisodeID) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.byID[id]
	if e != nil {
		e.asked = true
	}
	return e
}

// conclude starts to retire a stored episode. It returns false if a worker is processing
// the episode.
func (q *queue) conclude(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.phase != waiting && e.phase != packed {
		return false
	}
	e.phase = retiring
	return true
}

// hold stops sending the episodes of a commit.
func (q *queue) hold(c ident.Commit, h spool.Hold) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holds[c] = h
	q.changed()
}

// unhold releases the commits for which free returns true, and returns them.
func (q *queue) unhold(free func(ident.Commit, spool.Hold) bool) (gone []ident.Commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for c, h := range q.holds {
		if free(c, h) {
			delete(q.holds, c)
			gone = append(gone, c)
		}
	}
	if len(gone) > 0 {
		q.changed()
	}
	return gone
}

// figures returns the queue's part of a ping, without the quarantine.
func (q *queue) figures() wire.Queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := wire.Queue{Recording: q.recording}
	for _, e := range q.order {
		if e.phase == retiring {
			continue
		}
		f.Bytes += e.bytes
		if q.isHeld(e) {
			f.Held++
			continue
		}
		f.Waiting++
		if f.Oldest.IsZero() {
			f.Oldest = e.id.Time()
		}
	}
	return f
}

// busy reports whether a worker is processing an episode or could start one now.
func (q *queue) busy(now time.Time, canSend bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.order {
		switch e.phase {
		case packing, sending, retiring:
			return true
		case waiting, packed:
			if canSend && !q.isHeld(e) && !e.notBefore.After(now) {
				return true
			}
		}
	}
	return false
}

// markNoted records that an episode's receipt is durable.
func (q *queue) markNoted(id ident.EpisodeID) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.byID[id]
	e.noted = true
	return e
}

func (q *queue) get(id ident.EpisodeID) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byID[id]
}
