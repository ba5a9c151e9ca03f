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
	leaseLife = 30 * time.Second
	checkLife = 11 * time.Minute
	// The authority's is short, because its end is what a takeover waits for.
	authorityLife = 6 * time.Second
)

// The tables of leases: of serve and fleet-check, and of the authority.
const (
	leaseTable     = "leases"
	authorityTable = "authority_leases"
)

// lease is the right of this process to one kind of work. Each time another holder takes it,
// its token grows.
type lease struct {
	db    *db
	table string
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
	if w != receiver.Rolling && w != receiver.Scrubbing && w != receiver.Publishing && w != receiver.Releasing {
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
	l := &lease{db: d, table: leaseTable, work: w, base: base}
	if err := l.begin(); err != nil {
		return nil, errors.Join(err, base.Close())
	}
	d.mu.Lock()
	d.leases[w] = l
	d.mu.Unlock()
	return l, nil
}

// begin takes the lease and renews it.
func (l *lease) begin() error {
	if err := l.take(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.end, l.ended = cancel, make(chan struct{})
	go l.renew(ctx)
	return nil
}

func (l *lease) life() time.Duration {
	switch {
	case l.table == authorityTable:
		return authorityLife
	case l.work == receiver.Checking:
		return checkLife
	}
	return leaseLife
}

// every is how often the lease is renewed.
func (l *lease) every() time.Duration { return min(l.life(), leaseLife) / 3 }

// take takes the lease if it ended, or if this receiver has it: then another process of this
// receiver had it, which the base's lease proves to be over. Names of authorities prove nothing.
func (l *lease) take() error {
	return l.db.do(context.Background(), func(ctx context.Context, c conn) error {
		name, holder := string(l.work), l.db.holder()
		err := c.QueryRow(ctx, `
INSERT INTO `+l.table+` AS l (name, holder, token, until) VALUES ($1, $2, 1, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, token = l.token + 1
WHERE l.until < now() OR l.holder = excluded.holder AND $4 RETURNING token`,
			name, holder, l.life().Seconds(), l.table == leaseTable).Scan(&l.token)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = c.QueryRow(ctx, "SELECT holder FROM "+l.table+" WHERE name = $1", name).Scan(&holder)
		return errors.Join(err, &receiver.HeldError{Work: l.work, Holder: holder})
	})
}

// extend moves the end of the lease, unless another process took it.
func (l *lease) extend(secs float64) error {
	return l.db.do(context.Background(), func(ctx context.Context, c conn) error {
		tag, err := c.Exec(ctx, "UPDATE "+l.table+" SET until = now() + make_interval(secs => $3) WHERE name = $1 AND token = $2",
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
	tick := time.NewTicker(l.every())
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
	if l == nil && w == receiver.Publishing {
		l = d.leases[receiver.Releasing]
	}
	d.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.fence(ctx, c)
}

// fence fails a transaction if another process took the lease, and lets nobody take it before the
// transaction ends.
func (l *lease) fence(ctx context.Context, c conn) error {
	var one int
	err := c.QueryRow(ctx, "SELECT 1 FROM "+l.table+" WHERE name = $1 AND token = $2 AND until > now() FOR SHARE",
		string(l.work), l.token).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: the lease of %s ended before this write", receiver.ErrLeased, l.work)
	}
	return err
}
