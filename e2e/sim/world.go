// Package sim simulates a fleet in one process: hosts, receiver, authority and people, for
// weeks that take seconds, under faults chosen by a seed.
//
// The programs are the product's own code. Models replace the disk, the network, clocks, the
// service manager, the recorder and people. Time is that of a testing/synctest bubble. The
// package has no state: a plan determines a run, except for the order of goroutines.
package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cis490/internal/disk"
	rel "cis490/internal/manifest"
	"cis490/receiver/authority"
	"cis490/receiver/store"
)

// Plan describes a run.
type Plan struct {
	Seed   uint64
	Hosts  int
	Length time.Duration // of the faults; some hours without faults follow
	// Pace multiplies intervals of timers, pings and recordings, and the limits that depend on
	// them. 0 and 1 are as installed.
	Pace   int
	Faults []Fault
}

// Simulated returns how long a run lasts in its own time.
func (p Plan) Simulated() time.Duration { return p.Length + pace(max(p.Pace, 1)).peace() }

// World is a run.
type World struct {
	plan Plan
	pace
	kinds   map[string]Kind
	current atomic.Pointer[current]
	due     []moment // in order
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	began   time.Time
	out     io.Writer // for the trace; nil: none
	level   slog.Level

	blocked   atomic.Bool // the gate rejects the hosts' commit from now on
	away      atomic.Bool // notifications fail
	unwatched atomic.Bool // fleet-check is not started
	oldOffer  atomic.Bool // the oldest release is offered
	mu        sync.Mutex
	listeners map[string]*listener

	rx    *Machine
	recv  *Receiver
	hosts []*Host
	book  *book
	trial map[*Host]time.Time // since when it has been on trial without a fault
	step  rolling
	low   int // index of the fault that filled the disk; -1: none
	kept  int // episodes stored at that time
}

// Run plays a plan within a bubble, and returns the violations. It writes a trace to out
// unless out is nil, with the programs' log lines of at least a level.
func Run(plan Plan, out io.Writer, level slog.Level) (*Report, error) {
	time.Sleep(time.Until(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))) // a bubble begins in the year 2000
	w := &World{
		plan: plan, pace: pace(max(plan.Pace, 1)), kinds: kinds(), listeners: map[string]*listener{}, trial: map[*Host]time.Time{},
		low: -1, began: time.Now(), out: out, level: level,
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.prepare()
	w.book = newBook(w)
	w.recv = newReceiver(w)
	w.rx = w.recv.Machine
	if err := w.configure(""); err != nil {
		return nil, err
	}
	for n := range plan.Hosts {
		w.hosts = append(w.hosts, newHost(w, n))
	}
	defer func() {
		w.stop()
		w.wg.Wait()
	}()
	if err := w.begin(); err != nil {
		return nil, err
	}
	w.wg.Go(w.watch)
	w.play(false)
	time.Sleep(w.peace())
	w.final()
	return w.book.report(), nil
}

// begin starts all machines and enrolls the hosts.
func (w *World) begin() error {
	fsys := w.recv.person().fs
	var err error
	if w.recv.key, _, err = rel.NewKey(); err != nil {
		return err
	}
	for _, dir := range []string{rxAuthority, rxSpare, store.KnownDir(rxConfig)} {
		if err := disk.MkdirAll(fsys, dir, 0o750); err != nil {
			return err
		}
	}
	if err := disk.ReplaceBytes(fsys, w.recv.conf.Operator, 0o640, []byte(operatorToken+"\n")); err != nil {
		return err
	}
	keys := rel.Keyring{w.recv.key.Public()}.String()
	if err := disk.ReplaceBytes(fsys, filepath.Join(rxAuthority, authority.ReleaseKeys), 0o644, []byte(keys)); err != nil {
		return err
	}
	if err := w.recv.installUnits(); err != nil {
		return err
	}
	w.play(true)
	w.rx.Boot()
	time.Sleep(10 * time.Second)
	for _, h := range w.hosts {
		if err := w.recv.admit(w.ctx, h); err != nil {
			return err
		}
		if err := h.configure(h.settings("receiver", h.name)); err != nil {
			return err
		}
		if err := h.write(carried, binary(0).bytes()); err != nil {
			return err
		}
		h.Boot()
		w.insist(h.name, "install", func() error { return h.install(carried) })
	}
	return nil
}

// configure writes the receiver's config with a person's settings of the gate.
func (w *World) configure(gate string) error {
	text := "public_url = \"" + receiverURL + "\"\n[gate]\n" + gate + "\n"
	fsys := w.recv.person().fs
	if err := disk.MkdirAll(fsys, filepath.Dir(rxConfig), 0o755); err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, rxConfig, 0o600, []byte(text))
}

// trace writes a line to the trace, with the simulated time.
func (w *World) trace(who, format string, args ...any) {
	if w.out == nil {
		return
	}
	at := time.Since(w.began)
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.out, "%3dd%s %-9s %s\n", int(at.Hours()/24), clockOf(at), who, fmt.Sprintf(format, args...))
}

func clockOf(d time.Duration) string {
	d %= 24 * time.Hour
	return fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// log is the log of a program.
func (w *World) log(who, program string) *slog.Logger {
	if w.out == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&logged{w: w, who: who, program: program})
}

// logged writes log lines into the trace.
type logged struct {
	w            *World
	who, program string
	attrs        []slog.Attr
}

func (l *logged) Enabled(_ context.Context, level slog.Level) bool { return level >= l.w.level }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	text := l.program + " " + r.Level.String() + " " + r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	l.w.trace(l.who, "%s", text)
	return nil
}

func (l *logged) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = append(append([]slog.Attr{}, l.attrs...), attrs...)
	return &c
}

func (l *logged) WithGroup(string) slog.Handler { return l }
