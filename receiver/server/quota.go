package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// quotas bound the bytes of one host: those stored in all, and those accepted in an hour.
// A background count over the index adds what was stored before the start. With other receivers
// the index is followed, because they store episodes of the same hosts.
type quotas struct {
	stored, hourly int64 // bytes; 0: no bound
	follows        bool
	now            func() time.Time

	mu    sync.Mutex
	hosts map[ident.Host]*usage
}

// usage is what a host has used.
type usage struct {
	stored int64
	used   float64 // bytes of the hourly quota; refilled with time
	at     time.Time
	// pending are uploads that are counted, whose row was not read yet. Only if quotas follow.
	pending map[ident.EpisodeID]int64
}

// refill reduces the used bytes by the time that passed.
func (u *usage) refill(hourly int64, now time.Time) {
	if d := now.Sub(u.at); d > 0 {
		u.used = max(0, u.used-d.Hours()*float64(hourly))
	}
	u.at = now
}

// takenFor is how far back the index is read for the hourly quota: more than an hour,
// because one episode may exceed it.
const takenFor = 24 * time.Hour

func newQuotas(stored, hourly int64, follows bool, now func() time.Time) *quotas {
	return &quotas{stored: stored, hourly: hourly, follows: follows && (stored > 0 || hourly > 0), now: now, hosts: map[ident.Host]*usage{}}
}

// acquire counts an upload, or returns why it exceeds a quota. The caller calls release
// with whether it was stored.
func (q *quotas) acquire(h ident.Host, id ident.EpisodeID, size int64) (release func(stored bool), err error) {
	if q.stored == 0 && q.hourly == 0 {
		return func(bool) {}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.usage(h)
	if q.stored > 0 && u.stored+size > q.stored {
		p := wire.NewProblem(
			wire.Quota, "%s has stored %d bytes; %d more exceed its quota of %d ([limits] host_quota)", h, u.stored, size, q.stored,
		)
		p.RetryAfter = 600
		return nil, p
	}
	if q.hourly > 0 {
		u.refill(q.hourly, q.now())
		// An upload that is larger than the rest of the quota may pass, because otherwise it
		// never could.
		if over := u.used - float64(q.hourly); over >= 0 {
			p := wire.NewProblem(wire.Busy, "%s has sent its %d bytes of this hour ([limits] host_hourly)", h, q.hourly)
			p.RetryAfter = 1 + int(over/float64(q.hourly)*3600)
			return nil, p
		}
	}
	u.stored += size
	u.used += float64(size)
	_, twice := u.pending[id]
	if q.follows && !twice {
		u.pending[id] = size
	}
	return func(stored bool) {
		q.mu.Lock()
		defer q.mu.Unlock()
		_, unread := u.pending[id]
		switch {
		case q.follows && !twice && (stored || !unread): // its row counts, or has counted
			return
		case stored && !q.follows:
			return
		case !twice:
			delete(u.pending, id)
		}
		u.stored -= size
		u.used = max(0, u.used-float64(size))
	}, nil
}

func (q *quotas) usage(h ident.Host) *usage {
	u := q.hosts[h]
	if u == nil {
		u = &usage{at: q.now(), pending: map[ident.EpisodeID]int64{}}
		q.hosts[h] = u
	}
	return u
}

// gone records that bytes of a host are not stored here any more.
func (q *quotas) gone(h ident.Host, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.follows { // else its row counts
		q.usage(h).stored -= size
	}
}

// from returns the time from which rows count.
func (q *quotas) from(now time.Time) time.Time {
	if q.stored == 0 {
		return now.Add(-takenFor)
	}
	return time.Time{}
}

// count adds the rows before a time. Later rows belong to uploads that acquire counted. A
// repaired row does not count for the hourly quota, because its time is that of the
// repair.
func (q *quotas) count(ctx context.Context, index receiver.Log[receiver.Entry], until time.Time) error {
	if q.stored == 0 && q.hourly == 0 {
		return nil
	}
	before := map[ident.Host]*usage{}
	for r, err := range index.Since(q.from(until)) {
		if err != nil {
			return fmt.Errorf("count the stored bytes of each host: %w", err)
		}
		if ctx.Err() != nil || !r.ReceivedAt.Before(until) {
			break
		}
		q.addRow(before, r)
	}
	q.add(before)
	return nil
}

// add adds usages that end now or earlier.
func (q *quotas) add(before map[ident.Host]*usage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for h, was := range before {
		u := q.usage(h)
		was.refill(q.hourly, u.at)
		u.stored += was.stored
		u.used += was.used
	}
}

// addRow adds a row to the usage of its host.
func (q *quotas) addRow(to map[ident.Host]*usage, r receiver.Entry) {
	u := to[r.Host]
	if u == nil {
		u = &usage{}
		to[r.Host] = u
	}
	switch {
	case r.Archived:
		u.stored -= r.Size
	case r.Repaired:
		u.stored += r.Size
	default:
		at := r.When()
		if now := q.now(); at.After(now) {
			at = now // the row has a time from a wrong clock
		}
		u.stored += r.Size
		u.refill(q.hourly, at)
		u.used += float64(r.Size)
	}
}

// follow reads the rows that all receivers added since the last call.
func (q *quotas) follow(rows receiver.Follower[receiver.Entry]) error {
	more := map[ident.Host]*usage{}
	err := rows.Read(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		clear(more)
		for _, u := range q.hosts {
			u.stored, u.used = 0, 0
			for _, size := range u.pending {
				u.stored, u.used = u.stored+size, u.used+float64(size)
			}
		}
	}, func(r receiver.Entry) {
		if !q.counted(r) {
			q.addRow(more, r)
		}
	})
	q.add(more)
	return err
}

// counted reports whether a row is that of an upload that acquire counted.
func (q *quotas) counted(r receiver.Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.usage(r.Host)
	_, counted := u.pending[r.Episode]
	if counted = counted && !r.Archived; counted {
		delete(u.pending, r.Episode)
	}
	return counted
}

// followEvery is how often rows of other receivers are read.
const followEvery = time.Second

// count counts the stored bytes of each host, for the quotas.
func (s *Server) count(ctx context.Context) error {
	q := s.quotas
	if !q.follows {
		if err := q.count(ctx, s.o.Backend.Index, s.began); err != nil {
			s.o.Log.Error("cannot count stored bytes; until serve restarts, host_quota counts new episodes only", "err", err)
		}
		return nil
	}
	rows := s.o.Backend.Index.Follow(q.from(s.began))
	tick := time.NewTicker(max(followEvery, s.o.Poll))
	defer tick.Stop()
	for failed := false; ; {
		err := q.follow(rows)
		if err != nil && !failed {
			s.o.Log.Warn("cannot follow stored bytes; host_quota does not count new episodes of other receivers", "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
