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
// A background count over the index adds what was stored before the start.
type quotas struct {
	stored, hourly int64 // bytes; 0: no bound
	now            func() time.Time

	mu    sync.Mutex
	hosts map[ident.Host]*usage
}

// usage is what a host has used.
type usage struct {
	stored int64
	used   float64 // bytes of the hourly quota; refilled with time
	at     time.Time
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

func newQuotas(stored, hourly int64, now func() time.Time) *quotas {
	return &quotas{stored: stored, hourly: hourly, now: now, hosts: map[ident.Host]*usage{}}
}

// acquire counts an upload, or returns why it exceeds a quota. The caller calls release
// with whether it was stored.
func (q *quotas) acquire(h ident.Host, size int64) (release func(stored bool), err error) {
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

// gone records that bytes of a host are not stored here any more.
func (q *quotas) gone(h ident.Host, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.usage(h).stored -= size
}

// count adds the rows before a time. Later rows belong to uploads that acquire counted. A
// repaired row does not count for the hourly quota, because its time is that of the
// repair.
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
			return fmt.Errorf("count the stored bytes of each host: %w", err)
		}
		if ctx.Err() != nil || !r.ReceivedAt.Before(until) {
			break
		}
		at := r.When()
		if now := q.now(); at.After(now) {
			at = now // the row has a time from a wrong clock
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
