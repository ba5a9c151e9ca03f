package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
)

// How long leases last by the database's clock, and how often they are renewed. The lease
// of fleet-check outlasts two of its runs: so one receiver judges the fleet, until it is away.
const (
	leaseLife  = 30 * time.Second
	leaseRenew = leaseLife / 3
	checkLife  = 11 * time.Minute
)

// lease is the right of this process to one kind of work. Each time another holder takes it,
// its token grows.
type lease struct {
	db    *db
	work  receiver.Work
	base  io.Closer // of the same work on this machine
	token int64
	end   context.CancelFunc
	ended chan struct{}
}

// nothing is the base of the leases that only serve takes: it has the lease of the data folder.
type nothing struct{}

// Close does nothing.
func (nothing) Close() error { return nil }

// lease takes the lease of a kind of work: on this machine and, except for serving and
// archiving, among all receivers.
func (d *db) lease(w receiver.Work) (io.Closer, error) {
	base := io.Closer(nothing{})
	if w != receiver.Rolling && w != receiver.Scrubbing && w != receiver.Publishing {
		var err error
		if base, err = d.o.Base.Lease(w); err != nil || w != receiver.Checking {
			return base, err
		}
	}
	l, err := d.hold(w, base)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// hold takes the lease of a kind of work among all receivers. It closes base with it.
func (d *db) hold(w receiver.Work, base io.Closer) (*lease, error) {
	l := &lease{db: d, work: w, base: base, ended: make(chan struct{})}
	if err := l.take(); err != nil {
		return nil, errors.Join(err, base.Close())
	}
	d.mu.Lock()
	d.leases[w] = l
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	l.end = cancel
	go l.renew(ctx)
	return l, nil
}

func (l *lease) life() time.Duration {
	if l.work == receiver.Checking {
		return checkLife
	}
	return leaseLife
}

// take takes the lease if it ended, or if this receiver has it: then another process of this
// receiver had it, which the base's lease proves to be over.
func (l *lease) take() error {
	return l.db.do(context.Background(), func(ctx context.Context, c conn) error {
		name, holder := string(l.work), l.db.holder()
		err := c.QueryRow(ctx, `
INSERT INTO leases AS l (name, holder, token, until) VALUES ($1, $2, 1, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, token = l.token + 1
WHERE l.until < now() OR l.holder = excluded.holder RETURNING token`, name, holder, l.life().Seconds()).Scan(&l.token)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = c.QueryRow(ctx, "SELECT holder FROM leases WHERE name = $1", name).Scan(&holder)
		return errors.Join(err, &receiver.HeldError{Work: l.work, Holder: holder})
	})
}

// extend moves the end of the lease, unless another process took it.
func (l *lease) extend(secs float64) error {
	return l.db.do(context.Background(), func(ctx context.Context, c conn) error {
		tag, err := c.Exec(ctx, "UPDATE leases SET until = now() + make_interval(secs => $3) WHERE name = $1 AND token = $2",
			string(l.work), l.token, secs)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("%w: of %s, since this one was late to renew it", receiver.ErrLeased, l.work)
		}
		return err
	})
}

// renew extends the lease until it is closed. If another process took it, the writes of this
// one fail.
func (l *lease) renew(ctx context.Context) {
	defer close(l.ended)
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.extend(l.life().Seconds()); err != nil {
			l.db.o.Log.Warn("cannot renew a lease", "lease", l.work, "err", err)
		}
	}
}

// Close ends the lease; without the database it ends by itself. That of fleet-check stays with
// this receiver.
func (l *lease) Close() error {
	l.end()
	<-l.ended
	l.db.mu.Lock()
	delete(l.db.leases, l.work)
	l.db.mu.Unlock()
	if l.work != receiver.Checking {
		if err := l.extend(-1); err != nil {
			l.db.o.Log.Warn("cannot end a lease", "lease", l.work, "err", err)
		}
	}
	return l.base.Close()
}

// fence fails a transaction of a process whose lease another one took.
func (d *db) fence(ctx context.Context, c conn, w receiver.Work) error {
	d.mu.Lock()
	l := d.leases[w]
	d.mu.Unlock()
	if l == nil {
		return nil
	}
	var one int
	err := c.QueryRow(ctx, "SELECT 1 FROM leases WHERE name = $1 AND token = $2 AND until > now() FOR SHARE", string(w), l.token).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: the lease of %s ended before this write", receiver.ErrLeased, w)
	}
	return err
}
