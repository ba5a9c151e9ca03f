// Package ship empties the outbox. It finds complete episodes, packs the next while the
// previous one uploads, and handles each of the receiver's answers by the table in Rules.
//
// Nothing is lost: an episode leaves the host only after its receipt is durable, and an
// episode that the receiver lost is sent again. Retries are bounded: a rejected episode
// is sent once per policy of the receiver, a rejected commit once per policy for all its
// episodes, and a failing receiver gets one request per growing wait. No episode blocks
// the queue. All of this survives a crash at any point (package spool), and holds and
// long waits survive restarts.
//
// It removes a rejected episode only after quarantine_keep_days, where that is set, and it
// quarantines only upon an answer of a cis490 receiver.
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

// Receiver is the part of *client.Client that sends requests.
type Receiver interface {
	Put(context.Context, client.Tarball) (r wire.Receipt, created bool, err error)
	Ping(context.Context, wire.Ping) (wire.Pong, error)
	Reconcile(context.Context, []wire.Pair) (wire.Reconciled, error)
}

// Credentials is the part of *client.Client that reports whether this host is enrolled.
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
	NewPacker   func() (spool.Packer, error) // called when the first episode is packed
	Receiver    Receiver
	Credentials Credentials
	Logger      *slog.Logger
	Now         func() time.Time
	// Watch reports episodes that may be complete, until the context ends. With nil, only
	// the scan finds episodes.
	Watch func(ctx context.Context, found func(ident.EpisodeID)) error
	// Failing returns the ids of failing hard checks, for pings. It gets the queue's figures,
	// because counting the episodes on the disk takes longer the more of them wait. It may be
	// nil.
	Failing func(context.Context, wire.Queue) []string
	// Update returns the update status; nil means that this machine is not updated.
	Update func() *wire.Update
	// Hardware describes this machine, for pings. It may be nil.
	Hardware *wire.Hardware
	// Notify sends a state to the service manager. It may be nil.
	Notify func(state string)
	// Watchdog is the time within which the service manager expects a watchdog message; 0
	// means a minute.
	Watchdog time.Duration
	// Leaving reports, at the end of Run, whether the machine shuts down; the receiver is
	// then notified. nil means never.
	Leaving func(context.Context) bool
	// Sleeps calls change before and after each sleep of the machine, until the context
	// ends. It may be nil.
	Sleeps func(ctx context.Context, change func(asleep bool)) error
}

// Shipper ships the episodes of one spool.
type Shipper struct {
	Options
	queue    *queue
	watchdog *watchdog
	limit    *rate.Limiter

	stateMu sync.Mutex
	state   spool.State
	savedAt time.Time

	mu         sync.Mutex // guards the fields below
	uplink     uplink
	pong       *wire.Pong    // the last one of this run
	ahead      time.Duration // this clock minus the receiver's, at that pong
	ready      bool          // credentials existed at the last check
	lastReason error         // why Once left an episode
	moved      Moved

	stuck int // folders that could not be moved at the last scan; used by scanLoop only

	unsaved int // batches of receipts in a row that could not be saved; used by retireLoop only

	reconcileAfter time.Time // earliest retry of a failed reconcile

	// Rejected commits and episodes since the last ping was sent. Its pong may be older
	// than the rejection, and must not release them.
	refused map[any]bool
	// recheck: the next pong reviews the quarantine even if its policy is the same.
	recheck bool
	// room is how many bytes packing lacked; prune frees them from shipped/.
	room int64

	pinging   chan struct{} // semaphore: one ping at a time
	door      chan struct{} // semaphore: one upload at a time waits for the receiver's 100 Continue
	reconcile chan struct{}
	done      chan spool.Acknowledged
}

// Moved counts what a run has shipped, for a progress line.
type Moved struct {
	Episodes int   // acknowledged
	Bytes    int64 // sent
	Whole    int64 // size on disk of the sent episodes, and of the sent share of the current one
	SetAside int
	Left     wire.Queue
}

// New returns a shipper with the state and queue read from a recovered spool. interrupted
// are the episodes that were being packed when the last run ended; they go last for a
// while, because one of them may have crashed it.
func New(o Options, interrupted []ident.EpisodeID) (*Shipper, error) {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Failing == nil {
		o.Failing = func(context.Context, wire.Queue) []string { return nil }
	}
	s := &Shipper{
		Options: o, queue: newQueue(), watchdog: newWatchdog(o.Now), limit: bandwidth(int(o.Config.BandwidthPerSecond)), state: o.State,
		uplink:    uplink{jitter: func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }, ping: true},
		reconcile: make(chan struct{}, 1), pinging: make(chan struct{}, 1), door: make(chan struct{},
			1), done: make(chan spool.Acknowledged, maxAhead),
	}
	s.uplink.resume(o.Now(), o.State.Pause)
	maps.Copy(s.queue.holds, o.State.Holds)
	if _, err := s.scan(); err != nil {
		return nil, err
	}
	for _, id := range interrupted {
		if e := s.queue.byID[id]; e != nil {
			e.attempts, e.notBefore = 1, o.Now().Add(time.Minute)
			o.Logger.Warn("episode was being packed when the last run ended; it goes to the end of the queue for a minute", "episode", id)
		}
	}
	return s, nil
}

// Run ships until the context ends. It notifies the receiver if the machine shuts down, and
// returns nil.
func (s *Shipper) Run(ctx context.Context) error {
	s.Notify("READY=1")
	s.Logger.Info("shipper started", "waiting", s.queue.figures().Waiting)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, work := range append(s.workers(), s.pingLoop, s.scanLoop, s.reconcileLoop, s.watchdogLoop, s.watchLoop, s.sleepLoop) {
		wg.Go(func() { work(ctx) })
	}
	<-ctx.Done()
	s.Notify("STOPPING=1")
	if s.Leaving != nil && s.Leaving(context.WithoutCancel(ctx)) {
		s.sendLeaving(ctx)
	}
	s.remember(func(*spool.State) {})
	return nil
}

// workers returns the loops that pack, send and retire episodes.
func (s *Shipper) workers() []func(context.Context) {
	all := []func(context.Context){s.retireLoop}
	for _, c := range []class{small, large} {
		all = append(all, func(ctx context.Context) { s.packLoop(ctx, c) }, func(ctx context.Context) { s.sendLoop(ctx, c) })
	}
	return all
}

// Once ships what waits now and returns nil when nothing is left. A *LeftError counts the
// episodes it had to leave.
func (s *Shipper) Once(ctx context.Context) error {
	// A person asked: ignore all waits.
	s.uplink.until = time.Time{}
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

// LeftError reports that Once left episodes waiting.
type LeftError struct {
	Queue wire.Queue
	Err   error // the last refusal or fault; may be nil
}

// Error returns the number of episodes and the last error.
func (e *LeftError) Error() string {
	text := fmt.Sprintf("%d episodes are left, %d of them held by the gate", e.Queue.Waiting+e.Queue.Held, e.Queue.Held)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the last error.
func (e *LeftError) Unwrap() error { return e.Err }

// Moved returns what this run has shipped so far.
func (s *Shipper) Moved() Moved {
	s.mu.Lock()
	m := s.moved
	s.mu.Unlock()
	m.Left = s.queue.figures()
	return m
}

// Queue returns the queue's figures for a ping.
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

// remember changes the state and saves it. A failed save is logged only: it costs one
// redundant request after a restart.
func (s *Shipper) remember(change func(*spool.State)) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	change(&s.state)
	s.savedAt = s.Now()
	if err := s.Spool.SaveState(&s.state); err != nil {
		s.Logger.Warn("state not saved", "err", err)
	}
}

// sleep waits until a time (zero: none), a value on wake or the end of the context. It
// returns false when the context ended.
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
