package authority

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ledger"
	"cis490/internal/pki"
	rx "cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/records"
)

// caRecord is the name under which the CA is recorded, without its key.
const caRecord = "ca"

// lookEvery is how often a machine that stands by looks at the database, and the one that has the
// authority at its lease.
const lookEvery = time.Second

// shared is what an authority needs whose rows are in a database. Each row is there before it is
// in a file, and the lease fences it. After an error nothing more is recorded: the row may be in
// the database and not in the file. So Run ends, and the rows are read again under a new lease,
// which nobody gets before the last transaction of this one is over.
type shared struct {
	rows   rx.Records
	copies *records.Copies
	active bool // has the lease, and all rows
	broken atomic.Bool
	end    chan error // an error ends Run
}

// fail ends Run.
func (s *shared) fail(err error) {
	if s.broken.CompareAndSwap(false, true) {
		s.end <- err
	}
}

func (s *shared) append(all []rx.Record) error {
	if s.broken.Load() {
		return fmt.Errorf("%w: an earlier row was not recorded", rx.ErrUnavailable)
	}
	err := s.rows.Append(all)
	if err != nil {
		s.fail(err)
	}
	return err
}

// sharedFile is a ledger whose rows are in the database first.
type sharedFile struct {
	*ledger.Ledger
	s *shared
}

func (s *shared) open(name string, o ledger.Options) (journal, error) {
	o.First = func(lines []byte) error {
		var all []rx.Record
		for line := range strings.Lines(string(lines)) {
			all = append(all, rx.Record{File: name, Line: strings.TrimSuffix(line, "\n")})
		}
		return s.append(all)
	}
	l, err := ledger.Open(o)
	if err != nil {
		return nil, err
	}
	return sharedFile{l, s}, nil
}

// Append ends Run after an error, because the database may have the row.
func (f sharedFile) Append(build func(at time.Time) any) error {
	err := f.Ledger.Append(build)
	if err != nil {
		f.s.fail(err)
	}
	return err
}

// holds returns an error if another machine may have the authority.
func (a *Authority) holds() error {
	if a.shared == nil || !a.shared.active {
		return nil
	}
	return a.shared.rows.Holds()
}

// record records the content of a file that is not a ledger, if it changed.
func (s *shared) record(file, content string) error {
	if have, ok := s.copies.Value(file); ok && have == content {
		return nil
	}
	err := s.append([]rx.Record{{File: file, Line: content}})
	if err == nil {
		s.copies.Set(file, content)
	}
	return err
}

// recordCA records the CA without its key, and what receivers trust.
func (a *Authority) recordCA() error {
	if a.shared == nil || !a.shared.active {
		return nil
	}
	err := a.shared.record(caRecord, string(a.ca.public(a.o.Now())))
	if err == nil {
		err = a.shared.record(TrustFile, string(pki.EncodeCerts(a.ca.trust(a.o.Now())...)))
	}
	return err
}

// recordKeys records the release keys, which release publish writes.
func (a *Authority) recordKeys() error {
	b, err := disk.ReadFile(a.o.FS, a.path(ReleaseKeys), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		err = a.shared.record(ReleaseKeys, string(b))
	}
	return err
}

// Shared runs an authority whose rows are in a database, until the context ends. It stands by
// while another machine has the authority, and takes over when that one's lease ends. opened is
// called with its address each time it has the authority.
func Shared(ctx context.Context, o Options, rows rx.Records, opened func(net.Addr) error) error {
	for ctx.Err() == nil {
		err := sharedOnce(ctx, o, rows, opened)
		switch {
		case errors.Is(err, rx.ErrUnavailable), errors.Is(err, rx.ErrUnready), errors.Is(err, rx.ErrLeased):
			o.Log.Error("this machine cannot have the authority", "err", err, "fix", fault.FixOf(err))
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// sharedOnce stands by, and has the authority once.
func sharedOnce(ctx context.Context, o Options, rows rx.Records, opened func(net.Addr) error) (err error) {
	a, err := lock(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	a.shared = &shared{rows: rows, end: make(chan error, 1), copies: records.New(records.Options{
		Rows: rows, FS: o.FS, Dir: o.Config.Dir, Files: map[string]fs.FileMode{
			local.RosterFile: groupMode, IssuedFile: groupMode, TokensFile: privateMode, ReceiversFile: privateMode,
			ReleaseKeys: publicMode,
		},
	})}
	lease, err := a.standBy(ctx)
	if err != nil || lease == nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Close()) }()
	if err := opened(a.Addr()); err != nil {
		return err
	}
	a.o.Log.Warn("this machine has the authority", "address", a.o.Config.URL)
	run, stop := context.WithCancel(ctx)
	defer stop()
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return a.Run(run) })
	g.Go(func() error {
		a.watch(run)
		stop()
		return nil
	})
	return g.Wait()
}

// watch returns when this machine may have the authority no more.
func (a *Authority) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case err = <-a.shared.end:
		case <-tick.C:
			if err = a.shared.rows.Holds(); err == nil {
				err = a.recordKeys()
			}
		}
		if err != nil {
			a.shared.broken.Store(true)
			a.o.Log.Warn("this machine gives up the authority, and stands by", "err", err)
			return
		}
	}
}

// takeOver brings the files up to date and starts. The caller has the lease.
func (a *Authority) takeOver() error {
	s := a.shared
	err := s.follow()
	if err == nil && !s.copies.Begun() || errors.Is(err, records.ErrAhead) {
		if !s.copies.Begun() {
			if err := s.rows.Alone(); err != nil {
				return err
			}
		}
		if missing := s.copies.Missing(); len(missing) > 0 {
			a.o.Log.Warn("adding rows that the database lacks", "rows", len(missing))
			if err := s.rows.Append(missing); err != nil {
				return err
			}
			err = s.follow()
		}
	}
	if err == nil {
		err = a.matchCA()
	}
	if err != nil {
		return err
	}
	s.active = true
	if err = a.start(); err == nil {
		err = a.recordKeys()
	}
	return err
}

// follow brings the files up to date.
func (s *shared) follow() error {
	err := s.copies.Follow()
	if d, ok := errors.AsType[*records.DivergedError](err); ok {
		err = fault.Fix(err, "sudo mv "+d.Path+" "+d.Path+".other && sudo systemctl restart cis490-bootstrap   # if the database's rows "+
			"are right; what this machine alone recorded has to be done again")
	}
	return err
}

// matchCA reads the CA key and compares it with the CA that the database names. It takes over
// which older CAs are trusted. A key that was made by a rotation which a crash interrupted is
// the newer one.
func (a *Authority) matchCA() error {
	line, recorded := a.shared.copies.Value(caRecord)
	restore := "on the machine that has the authority: sudo cis490 backup --to /root/ca.tar.gz; copy it here; then here: " +
		"sudo cis490 restore --ca-key --from ca.tar.gz"
	b, err := disk.ReadFile(a.o.FS, a.path(KeyFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		if !recorded {
			return nil // the first start
		}
		return fault.Fix(fmt.Errorf("the CA key is missing: %s", a.path(KeyFile)), restore)
	}
	if err != nil {
		return err
	}
	c, err := a.parseCA(b)
	if err != nil {
		return fault.Fix(fmt.Errorf("read the CA %s: %w", a.path(KeyFile), err), restore)
	}
	if recorded {
		certs, err := pki.ParseCerts([]byte(line))
		if err != nil {
			return fmt.Errorf("the CA in the database: %w", err)
		}
		now := a.o.Now()
		pub, _ := c.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
		switch {
		case pub.Equal(certs[0].PublicKey):
			named := caOf(c.Key, certs)
			if string(named.public(now)) != string(c.public(now)) {
				encoded, err := named.encode(now)
				if err == nil {
					err = disk.ReplaceBytes(a.o.FS, a.path(KeyFile), privateMode, encoded)
				}
				if err != nil {
					return fmt.Errorf("store the CA: %w", err)
				}
				c = named
			}
		case !slices.ContainsFunc(c.older, func(o olderCA) bool { return o.root.Equal(certs[0]) }):
			return fault.Fix(fmt.Errorf("the CA key here is of another CA, or an older one: its pin is %s, the fleet's CA has %s",
				pki.PinOf(c.Cert), pki.PinOf(certs[0])), restore)
		}
	}
	a.ca = c
	return nil
}

// standBy follows the database until it has the lease, all rows, and listens. Without an error
// and a lease the context ended.
func (a *Authority) standBy(ctx context.Context) (lease io.Closer, err error) {
	state := &standbyState{}
	stop, err := a.answerStandby(state)
	if err != nil {
		return nil, err
	}
	a.o.Notify("READY=1")
	var place io.Closer // among those that stand by
	defer func() {
		stop()
		if place != nil {
			err = errors.Join(err, place.Close())
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := ""
	for {
		err := a.mayTakeOver()
		switch {
		case err == nil && place == nil:
			if place, err = a.shared.rows.Lease(rx.Standby); err != nil {
				place = nil
			}
		case err != nil && place != nil:
			err, place = errors.Join(err, place.Close()), nil
		}
		if err == nil {
			var l io.Closer
			if l, err = a.shared.rows.Lease(rx.Publishing); err == nil {
				stop() // its socket is the authority's
				if err = a.takeOver(); err == nil {
					return l, nil
				}
				return nil, errors.Join(err, l.Close())
			}
		}
		if said := state.set(err); said != last {
			last = said
			a.o.Log.Info("this machine stands by", "why", said, "fix", fault.FixOf(err))
		}
		a.o.Notify("WATCHDOG=1")
		select {
		case <-ctx.Done():
			return nil, nil
		case <-tick.C:
		}
	}
}

// mayTakeOver brings the files up to date, also for serve on this machine, and returns why this
// machine could not take over.
func (a *Authority) mayTakeOver() error {
	err := a.shared.follow()
	if err != nil && !errors.Is(err, records.ErrAhead) {
		return err
	}
	if err := a.matchCA(); err != nil || a.ca.Cert == nil {
		return err
	}
	return errors.Join(a.writeCA(), a.ensureServerCerts())
}
