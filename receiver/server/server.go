// Package server is the HTTP side of `cis490 serve`.
//
// It accepts episodes from lab hosts whose certificate, serial, bearer and roster entry
// agree, and never in the name of another host. It answers 2xx only after the episode and
// its row are durable. Package store recovers from crashes; the server itself has no
// state that a restart loses. Refusals are problems with a reason and a fix, sent before
// the body if possible. Headers never establish an identity.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/gate"
	"cis490/receiver/metrics"
	"cis490/receiver/rollout"
	"cis490/receiver/roster"
	"cis490/receiver/web"
)

// drainTimeout bounds uploads in progress when serve stops.
const drainTimeout = 25 * time.Second

// Roster returns one host, or all. An error means that the roster cannot be read now.
type Roster interface {
	Host(ident.Host) (roster.Host, bool, error)
	All() ([]roster.Host, error)
}

// Options describe a server.
type Options struct {
	Config  config.Receiver
	Build   version.Info
	Backend receiver.Backend
	receiver.Credentials
	Gate  *gate.Gate
	Admin string // the socket for root; empty: none
	// Catalogue is the path of the catalogue; empty: none.
	Catalogue string
	Roster    Roster
	// Cluster follows the other receivers; nil: there are none.
	Cluster *cluster.Cluster
	// Mirror exchanges the authority's files and the releases with other receivers until the
	// context ends; nil: there are none.
	Mirror func(context.Context) error
	// Releases are the offered releases; nil: none.
	Releases *rollout.Controller
	// InstallScript returns the script that installs a lab host; nil: none.
	InstallScript func() (string, error)
	// FleetCheck returns when fleet-check last ran; nil: never.
	FleetCheck func() time.Time
	// Known returns a check of the lab hosts' registry, for the dashboard.
	Known func(id string) (check.Check, bool)
	// Offered returns the version that a host should run; nil: not known.
	Offered func(goos, arch string, h ident.Host) string
	// Notify sends a state to the service manager, as sd_notify(3); nil: there is none.
	Notify func(state string)
	// Listen opens the listener of network "tcp", or "unix" behind a proxy.
	Listen func(network, address string) (net.Listener, error)
	Now    func() time.Time
	Clock  func() clock.Reading // detects jumps of the clock; nil: Now alone
	Log    *slog.Logger
	// Poll is the shortest interval at which files of other processes are read, and documents
	// are saved. 0: each loop has its own, one to five seconds.
	Poll time.Duration
}

// Server is a listening receiver.
type Server struct {
	o          Options
	store      receiver.Store
	contacts   *contacts.Recorder
	rejections *contacts.Rejections
	snapshots  *contacts.Snapshots
	pair       *keptPair
	trust      *pki.Bundle
	uploads    *semaphore
	quotas     *quotas
	began      time.Time // when the files were opened
	downloads  *semaphore
	web        *web.Site
	metrics    *metrics.Metrics
	mux        *http.ServeMux
	listener   net.Listener
	limiter    *listen.Listener // of connections; nil behind a proxy
	unknown    *listen.Lines    // for requests of unknown clients
	refused    *listen.Lines    // for refused requests of hosts
	leaving    atomic.Bool      // balancers have to notice it
	stopping   atomic.Bool
	// closed is why the files are not open yet. Once it is nil, the fields that open sets
	// may be read.
	closed atomic.Pointer[condition]

	health   health
	failures failures
	recheck  chan struct{}  // a request failed: check at once
	bridged  *contacts.Jump // the last jump that silences were corrected for; nil: none yet
	ended    sync.Once

	catalogue atomic.Pointer[openCatalogue] // nil while it is not open
}

// New opens the receiver's files, recovers from a crash, and listens. If files cannot be
// opened, Run retries and answers 503 meanwhile. New returns an error only if another
// receiver uses them, or if it cannot listen.
func New(o Options) (_ *Server, err error) {
	c := o.Config
	o.Log = o.Log.With("component", "serve")
	s := &Server{
		o: o, trust: o.Trust, uploads: newSemaphore(c.Limits.Uploads), downloads: newSemaphore(c.Rollout.Downloads),
		recheck: make(chan struct{}, 1), unknown: listen.NewLines(lineBurst, lineEvery), refused: listen.NewLines(lineBurst, lineEvery),
	}
	if o.Pair != nil {
		s.pair = &keptPair{pair: o.Pair}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.open(); errors.Is(err, receiver.ErrLeased) {
		return nil, err
	}
	if s.listener, err = s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() (net.Listener, error) {
	c := s.o.Config
	if c.TLS.Mode == "proxy" {
		l, err := s.o.Listen("unix", c.TLS.Socket)
		if err != nil {
			return nil, err
		}
		return fileListener{l}, nil
	}
	l, err := s.o.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fault.Fix(
			fmt.Errorf("listen: %w", err), "ss -ltnp   # which process uses the port? or change listen in /etc/cis490/receiver.toml",
		)
	}
	s.limiter = listen.New(l, listen.Options{
		TLS: s.tlsConfig(), Unverified: unverifiedConns, Verified: verifiedConns, Balancers: c.Balancer.Prefixes(), Log: s.o.Log,
	})
	return s.limiter, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then drains requests for a bounded time. It closes the
// server.
func (s *Server) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	server := listen.Server(s.handler(), s.o.Log)
	conn := server.ConnContext
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return withVerdict(conn(ctx, c)) }
	s.notify("READY=1")
	notes, stopNotes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNotes()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.watch(gctx, func() {
			for _, work := range []func(context.Context) error{
				s.o.Gate.Run, s.compare, s.count, s.forget, s.join, s.web.Run, s.admin, s.runCatalogue,
			} {
				g.Go(func() error { return work(gctx) })
			}
			if s.o.Mirror != nil {
				g.Go(func() error { return s.o.Mirror(gctx) })
			}
			if s.o.Releases != nil {
				g.Go(func() error { return s.o.Releases.Run(gctx) })
			}
			for _, work := range []func(context.Context) error{s.contacts.Run, s.rejections.Run} {
				g.Go(func() error { return work(notes) })
			}
		})
	})
	g.Go(func() error {
		defer stopNotes() // after the last request, so that it is recorded
		return s.drain(gctx, server)
	})
	g.Go(func() error {
		if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// waitForBalancers gives balancers time to notice that serve ends, while it still accepts
// connections.
func (s *Server) waitForBalancers() {
	wait := s.o.Config.Balancer.Drain.D()
	if wait == 0 {
		return
	}
	s.leaving.Store(true)
	s.o.Log.Info("waiting for balancers", "wait", wait)
	s.notify(fmt.Sprintf("STOPPING=1\nSTATUS=waiting for balancers\nEXTEND_TIMEOUT_USEC=%d", (wait + 2*drainTimeout).Microseconds()))
	time.Sleep(wait)
}

// drain waits for ctx, lets requests in progress finish, and cuts those that take too
// long: their hosts send again.
func (s *Server) drain(ctx context.Context, server *http.Server) error {
	<-ctx.Done()
	s.waitForBalancers()
	s.stopping.Store(true)
	s.notify("STOPPING=1\nSTATUS=ending uploads in progress")
	s.o.Log.Info("draining")
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		s.o.Log.Warn("cut off requests while draining", "wait", drainTimeout)
		err = server.Close()
	}
	if s.opened() {
		s.contacts.Ready(false)
	}
	s.o.Log.Info("shutdown complete")
	return err
}

func (s *Server) notify(state string) {
	if s.o.Notify != nil {
		s.o.Notify(state)
	}
}

// Close closes what New opened. Run calls it, too.
func (s *Server) Close() (err error) {
	s.ended.Do(func() {
		if s.listener != nil {
			if e := s.listener.Close(); !errors.Is(e, net.ErrClosed) {
				err = e
			}
		}
		err = errors.Join(err, s.closeStore())
	})
	return err
}
