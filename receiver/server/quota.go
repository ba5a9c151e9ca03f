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

// quotas bound what one host may fill: the bytes that are stored of it, and those
// that are taken in an hour. What was stored and taken before a start is counted
// out of the index once, beside the work.
type quotas struct {
	stored, hourly int64 // bytes; 0 is no bound
	now            func() time.Time

	mu    sync.Mutex
	hosts map[ident.Host]*usage
}

// usage is what a host has used.
type usage struct {
	stored int64
	used   float64 // of the hour's bytes; it flows back with time
	at     time.Time
}

// flow lets what was taken flow back with the time that passed.
func (u *usage) refill(hourly int64, now time.Time) {
	if d := now.Sub(u.at); d > 0 {
		u.used = max(0, u.used-d.Hours()*float64(hourly))
	}
	u.at = now
}

// takenFor is how far back the hour's bytes are looked for in the index: more
// than an hour, as an episode may be larger than they are.
const takenFor = 24 * time.Hour

func newQuotas(stored, hourly int64, now func() time.Time) *quotas {
	return &quotas{stored: stored, hourly: hourly, now: now, hosts: map[ident.Host]*usage{}}
}

// enter books an upload, or tells why there is no room for it. release is called
// when it ended, with whether it is stored now.
func (q *quotas) acquire(h ident.Host, size int64) (release func(stored bool), err error) {
	if q.stored == 0 && q.hourly == 0 {
		return func(bool) {}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.usage(h)
	if q.stored > 0 && u.stored+size > q.stored {
		p := wire.NewProblem(wire.Quota, "%d bytes of %s are stored, %d more would be over its quota of %d ([limits] host_quota)", u.stored, h, size, q.stored)
		p.RetryAfter = 600
		return nil, p
	}
	if q.hourly > 0 {
		u.refill(q.hourly, q.now())
		// One that is larger than what is left may pass, or it never could.
		if over := u.used - float64(q.hourly); over >= 0 {
			p := wire.NewProblem(wire.Busy, "%s has sent the %d bytes that are taken of it in an hour ([limits] host_hourly)", h, q.hourly)
			p.RetryAfter = 1 + int(over/float64(q.hourly)*3600)
			return nil, p
		}
	}
	u.stored += size
	u.used += float64(size)
	return func(stored bool) {
		if stored {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		u.stored -= size
		u.used = max(0, u.used-float64(size))
	}, nil
}

func (q *quotas) usage(h ident.Host) *usage {
	u := q.hosts[h]
	if u == nil {
		u = &usage{at: q.now()}
		q.hosts[h] = u
	}
	return u
}

// gone tells that bytes of a host are not stored here any more.
func (q *quotas) gone(h ident.Host, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.usage(h).stored -= size
}

// count adds what the index has from before a time; later rows are of uploads
// that were booked. A repaired row has the time of its repair, at which nothing
// was taken.
func (q *quotas) count(ctx context.Context, index receiver.Log[receiver.Entry], until time.Time) error {
	from := time.Time{}
	switch {
	case q.stored == 0 && q.hourly == 0:
		return nil
	case q.stored == 0:
		from = until.Add(-takenFor)
	}
	before := map[ident.Host]*usage{}
	for r, err := range index.Since(from) {
		if err != nil {
			return fmt.Errorf("count what is stored of each host: %w", err)
		}
		if ctx.Err() != nil || !r.ReceivedAt.Before(until) {
			break
		}
		at := r.When()
		if now := q.now(); at.After(now) {
			at = now // by a clock that was ahead
		}
		u := before[r.Host]
		if u == nil {
			u = &usage{at: at}
			before[r.Host] = u
		}
		switch {
		case r.Archived:
			u.stored -= r.Size
		case r.Repaired:
			u.stored += r.Size
		default:
			u.stored += r.Size
			u.refill(q.hourly, at)
			u.used += float64(r.Size)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for h, was := range before {
		u := q.usage(h)
		was.refill(q.hourly, u.at)
		u.stored += was.stored
		u.used += was.used
	}
	return nil
}
