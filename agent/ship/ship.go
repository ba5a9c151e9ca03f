// Package ship is the outbox daemon: it finds whole episodes, packs the next
// while the last uploads, and does with each what the receiver's answer asks
// for, by the one table in Rules.
//
// Nothing is lost: an episode leaves the host only against a durable receipt,
// and what a receiver has lost goes out again. Nothing is repeated for long: a
// refused episode is sent once per policy of the receiver, a refused commit
// once per policy for all its episodes, and a sick receiver hears from a host
// once per growing wait. Nothing stops the queue: each episode waits for itself.
// All of this holds across a crash at any point (package spool), and the holds
// and the longer waits are kept across restarts.
//
// It never removes an episode that was refused, unless quarantine_keep_days is
// set and nobody looked at it for that long; and only an answer by a
// receiver of ours sets anything aside.
package ship

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"cis490/agent/client"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Receiver is what the shipper asks of the receiver; *client.Client does it.
type Receiver interface {
	Put(context.Context, client.Tarball) (r wire.Receipt, created bool, err error)
	Ping(context.Context, wire.Ping) (wire.Pong, error)
	Reconcile(context.Context, []wire.Pair) (wire.Reconciled, error)
}

// Credentials tells whether this host is enrolled; *client.Client does.
type Credentials interface {
	Ready() error
	Certificate() (*x509.Certificate, error)
}

var (
	_ Receiver    = (*client.Client)(nil)
	_ Credentials = (*client.Client)(nil)
)

// Options describe a shipper.
type Options struct {
	Host        ident.Host
	Config      config.Ship
	Build       version.Info
	BootID      string
	Spool       *spool.Spool
	State       spool.State
	NewPacker   func() (spool.Packer, error) // called when there is something to pack
	Receiver    Receiver
	Credentials Credentials
	Logger      *slog.Logger
	Now         func() time.Time
	// Watch sends the ids of episodes that may have become whole, until the
	// context ends; nil leaves noticing to the scan.
	Watch func(ctx context.Context, found func(ident.EpisodeID)) error
	// Failing returns the ids of failing hard checks, for pings; may be nil.
	Failing func(context.Context) []string
	// Update returns how this machine's updates stand; nil: nothing updates it.
	Update func() *wire.Update
	// Notify tells the service manager; may be nil.
	Notify func(state string)
	// Leaving tells, at the end of Run, whether the whole machine goes down; the
	// receiver is then told. nil: it never does.
	Leaving func(context.Context) bool
	// Sleeps calls before and after each sleep of the machine, until the context
	// ends; may be nil.
	Sleeps func(ctx context.Context, change func(asleep bool)) error
}

// Shipper ships the episodes of one spool.
type Shipper struct {
	Options
	queue *queue
	pulse *pulse
	limit *rate.Limiter

	stateMu sync.Mutex
	state   spool.State
	savedAt time.Time

	mu         sync.Mutex // guards what follows
	lane       lane
	pong       *wire.Pong    // the last one of this run
	ahead      time.Duration // by how much this clock was ahead of the receiver's then
	ready      bool          // credentials were there when last looked
	lastReason error         // why a one-time run left something
	moved      Moved

	stuck int // folders, at the last scan; for the scan alone

	unnoted int // batches of receipts in a row that could not be noted; for retireLoop alone

	reconcileAfter time.Time // a reconcile failed: not before then

	// What was refused since the last ping went out: its pong may be older than
	// the refusal, and must not let go what a newer policy holds.
	refused map[any]bool // of commits and episodes
	// recheck: what is set aside is looked through at the next pong, even if that
	// tells the same policy as the last one.
	recheck bool
	// room is how many bytes the disk lacked for packing: shipped/ makes room.
	room int64

	pinging   chan struct{} // held during a ping
	door      chan struct{} // held while an upload is not let in yet
	reconcile chan struct{}
	done      chan spool.Acknowledged
}

// Moved counts what a run did, for a progress line.
type Moved struct {
	Episodes int   // acknowledged
	Bytes    int64 // sent
	Whole    int64 // bytes on disk of what was sent, and of the sent share of the one under way
	SetAside int
	Left     wire.Queue
}

// New returns a shipper and takes up what was on disk; the spool has been
// recovered. interrupted are the episodes that were being packed when the last
// run ended; they go last for a while, as they may be what ended it.
func New(o Options, interrupted []ident.EpisodeID) (*Shipper, error) {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Failing == nil {
		o.Failing = func(context.Context) []string { return nil }
	}
	s := &Shipper{
		Options: o, queue: newQueue(), pulse: newPulse(o.Now), limit: bandwidth(int(o.Config.BandwidthPerSecond)), state: o.State,
		lane:      lane{jitter: func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }, ping: true},
		reconcile: make(chan struct{}, 1), pinging: make(chan struct{}, 1), door: make(chan struct{},
			1), done: make(chan spool.Acknowledged, maxAhead),
	}
	s.lane.resume(o.Now(), o.State.Pause)
	maps.Copy(s.queue.holds, o.State.Holds)
	if _, err := s.scan(); err != nil {
		return nil, err
	}
	for _, id := range interrupted {
		if e := s.queue.byID[id]; e != nil {
			e.attempts, e.notBefore = 1, o.Now().Add(time.Minute)
			o.Logger.Warn("episode was being packed when the last run ended; it goes last for a while", "episode", id)
		}
	}
	return s, nil
}

// Run ships until the context ends, tells the receiver if the whole machine goes
// down, and returns nil.
func (s *Shipper) Run(ctx context.Context) error {
	s.Notify("READY=1")
	s.Logger.Info("shipper started", "waiting", s.queue.figures().Waiting)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, work := range append(s.workers(), s.pingLoop, s.scanLoop, s.reconcileLoop, s.feedLoop, s.watchLoop, s.sleepLoop) {
		wg.Go(func() { work(ctx) })
	}
	<-ctx.Done()
	s.Notify("STOPPING=1")
	if s.Leaving != nil && s.Leaving(context.WithoutCancel(ctx)) {
		s.leave(ctx)
	}
	s.remember(func(*spool.State) {})
	return nil
}

// workers are what moves episodes.
func (s *Shipper) workers() []func(context.Context) {
	all := []func(context.Context){s.retireLoop}
	for _, c := range []class{small, large} {
		all = append(all, func(ctx context.Context) { s.packLoop(ctx, c) }, func(ctx context.Context) { s.sendLoop(ctx, c) })
	}
	return all
}

// Once ships what waits now and returns nil when nothing is left to ship. What
// it must leave is an error that says why.
func (s *Shipper) Once(ctx context.Context) error {
	// A person asks: try all of it now.
	s.lane.until = time.Time{}
	for _, e := range s.queue.order {
		e.notBefore = time.Time{}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, work := range s.workers() {
		wg.Go(func() { work(ctx) })
	}
	wake := s.queue.watch()
	var err error
	if f := s.queue.figures(); f.Waiting+f.Held > 0 {
		err = s.ping(ctx)
	}
	for asked := false; err == nil; {
		if !s.queue.busy(s.Now(), s.canSend()) {
			if asked {
				break
			}
			asked = true
			s.askHeld(ctx)
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	cancel()
	wg.Wait()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.queue.figures(); f.Waiting+f.Held > 0 {
		return &LeftError{f, s.lastReason}
	}
	return nil
}

// LeftError tells that a one-time run left episodes waiting.
type LeftError struct {
	Queue wire.Queue
	Err   error // the last refusal or fault; may be nil
}

// Error counts what was left and tells the last reason.
func (e *LeftError) Error() string {
	text := fmt.Sprintf("%d episodes are left, %d of them held by the gate", e.Queue.Waiting+e.Queue.Held, e.Queue.Held)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the last reason.
func (e *LeftError) Unwrap() error { return e.Err }

// Moved returns what this run has done so far.
func (s *Shipper) Moved() Moved {
	s.mu.Lock()
	m := s.moved
	s.mu.Unlock()
	m.Left = s.queue.figures()
	return m
}

// Queue returns the figures that pings carry.
func (s *Shipper) Queue() wire.Queue {
	f := s.queue.figures()
	if ids, err := s.Spool.Quarantined(); err == nil {
		f.Quarantined = len(ids)
	}
	s.stateMu.Lock()
	f.LastShipped = s.state.LastShipped
	s.stateMu.Unlock()
	return f
}

// remember changes the state and makes it durable. That it could not be saved is
// told, and no reason to stop: it costs a request too many after a restart.
func (s *Shipper) remember(change func(*spool.State)) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	change(&s.state)
	s.savedAt = s.Now()
	if err := s.Spool.SaveState(s.state); err != nil {
		s.Logger.Warn("state not saved", "err", err)
	}
}

// sleep waits for a time (zero: for ever), a token or the end of the context,
// and returns whether to go on.
func (s *Shipper) sleep(ctx context.Context, until time.Time, wake <-chan struct{}) bool {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(max(until.Sub(s.Now()), time.Millisecond))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer:
	}
	return ctx.Err() == nil
}

func refusal(err error) *wire.Problem {
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return p
	}
	return nil
}
