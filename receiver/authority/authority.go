// Package authority issues the identities of the fleet. It alone reads the CA
// key and alone writes roster, tokens, issued certificates and the server
// certificates; everyone else asks it, over HTTPS with a join token
// or the key last issued to the host, or as root over a Unix socket.
//
// Promises on a crash: what an answer handed out was recorded durably before;
// an answer that is lost costs nothing, as the same key may ask again. The CA
// is one file, swapped by one rename; all that follows from it is made anew at
// the next start.
//
// It refuses to issue anything but a certificate for the named host's key, to
// keep a secret in a form that could be used, and to run twice on one folder.
package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ledger"
	"cis490/internal/listen"
	"cis490/internal/peercred"
	"cis490/internal/pki"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// The files in the authority's folder, beside local.RosterFile.
const (
	KeyFile       = "ca.key"        // key and certificate of the CA, and what still trusts older ones; 0600
	CAFile        = "ca.crt"        // the CA's certificate
	TrustFile     = "trust.pem"     // every CA that is trusted now; serve verifies hosts with it
	ServerFile    = "server.pem"    // certificate and key of serve's listener; readable by its group
	ListenerFile  = "authority.pem" // certificate and key of the authority's own listener
	TokensFile    = "tokens.jsonl"
	IssuedFile    = "issued.jsonl"
	ReleaseKeys   = "release-keys" // minisign public keys that hosts are given, one a line
	timeKey       = "at"
	maxFile       = 1 << 20
	privateMode   = 0o600
	groupMode     = 0o640
	publicMode    = 0o644
	folderMode    = 0o750
	adminDeadline = 5 * time.Second
	adminTimeout  = 30 * time.Second // for a question on the admin socket, and for its answer
)

// What unknown clients may have: places for connections, refused requests of one
// address (at once, then one in each interval), and log lines about all of these. One
// connection of an unknown client costs at most 90 KiB.
const (
	unverifiedConns = 256
	verifiedConns   = 256
	hostConns       = 2
	burst           = 20
	refill          = 6 * time.Second
)

// How many certificates one host may have: at once (an answer may be lost), then some in
// each certificate's life. Each is a row of the roster, which serve reads, for good.
const (
	certBurst = 20
	certShare = 50 // of a life: one more certificate
)

// Options describe an authority.
type Options struct {
	Config    config.Authority
	PublicURL string // of the receiver
	Hostname  string // one more name in the server certificates; may be empty
	// Root is the file with the root of a certificate that the receiver, or the
	// proxy before it, has from elsewhere; empty if it is the authority's.
	Root string
	// Known is KnownFile of the config; empty: it is not noted which CA there is.
	Known string
	FS    disk.FS
	Log   *slog.Logger
	Now   func() time.Time
	// Listen and Admin open the listeners; nil is those of the machine.
	Listen func(network, address string) (net.Listener, error)
	Admin  func(path string) (net.Listener, error)
	Notify func(state string) // tells the service manager "READY=1" and "WATCHDOG=1"; nil: nobody
	// Poll is the shortest interval between two looks at the certificates; 0 means that of
	// their life, at most a minute.
	Poll time.Duration
}

// Authority is the one process that issues identities.
type Authority struct {
	o     Options
	names []string // of the server certificates
	lock  io.Closer

	listener net.Listener
	admin    net.Listener
	roster   *roster.View
	limit    *listen.Limiter // of refused requests, by address
	lines    *listen.Lines   // about them
	certs    *listen.Limiter // by host
	joins    *joins

	mu     sync.Mutex // one change at a time; guards what follows
	ca     ca
	root   []*x509.Certificate // from Options.Root
	events *ledger.Ledger      // roster.jsonl
	issued *ledger.Ledger
	tokens *tokenBook
}

// New opens the authority's folder, makes what is missing there, and listens.
// Nothing is answered before Run.
func New(o Options) (_ *Authority, err error) {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Admin == nil {
		o.Admin = listenAdmin
	}
	a := &Authority{
		o: o, limit: listen.NewLimiter(burst, refill, o.Now), lines: listen.NewLines(burst, refill),
		certs: listen.NewLimiter(certBurst, o.Config.CertLife.D()/certShare, o.Now),
		joins: &joins{now: o.Now},
	}
	if a.names, err = serverNames(o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if err := disk.MkdirAll(o.FS, o.Config.Dir, folderMode); err != nil {
		return nil, fault.Fix(fmt.Errorf("make the authority's folder: %w", err), "sudo cis490 install receiver")
	}
	if l, ok := o.FS.(disk.Locker); ok {
		if a.lock, err = l.Lock(o.Config.Dir); err != nil {
			return nil, fault.Fix(err, "systemctl status cis490-bootstrap   # only one authority may run on a folder")
		}
	}
	if err := a.openCA(); err != nil {
		return nil, err
	}
	if err := a.readRoot(); err != nil {
		return nil, err
	}
	if err := a.keepServerCerts(); err != nil {
		return nil, err
	}
	if err := a.openBooks(); err != nil {
		return nil, err
	}
	tcp, err := o.Listen("tcp", o.Config.Listen)
	if err != nil {
		return nil, fault.Fix(fmt.Errorf("listen: %w", err), "ss -ltnp   # shows who has the port; or set [authority] listen in receiver.toml")
	}
	a.listener = listen.New(tcp, listen.Options{
		TLS: pki.ServerTLS(pki.NewPair(o.FS, a.path(ListenerFile))), Unverified: unverifiedConns, Verified: verifiedConns, Log: o.Log,
	})
	// A port of 0 is whichever is free, also in the address that tokens carry.
	if u, err := url.Parse(o.Config.URL); err == nil && u.Port() == "0" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(a.listener.Addr().(*net.TCPAddr).Port))
		a.o.Config.URL = u.String()
	}
	a.admin, err = o.Admin(o.Config.Socket)
	return a, err
}

// Addr returns the address of the HTTPS listener.
func (a *Authority) Addr() net.Addr { return a.listener.Addr() }

// Run answers until the context ends, and keeps the server certificates fresh.
// Close is to be called after it.
func (a *Authority) Run(ctx context.Context) error {
	public := listen.Server(a.publicRoutes(), a.o.Log)
	admin := &http.Server{Handler: a.adminRoutes(), ReadTimeout: adminTimeout, WriteTimeout: adminTimeout, ConnContext: peercred.WithCaller}
	a.o.Notify("READY=1")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return served(public.Serve(a.listener)) })
	g.Go(func() error { return served(admin.Serve(a.admin)) })
	g.Go(func() error {
		a.keepFresh(ctx)
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDeadline)
		defer cancel()
		return errors.Join(public.Shutdown(stop), admin.Shutdown(stop))
	})
	return g.Wait()
}

// Close closes files and listeners; it may be called twice.
func (a *Authority) Close() error {
	var all []error
	for _, l := range []net.Listener{a.listener, a.admin} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				all = append(all, err)
			}
		}
	}
	for _, l := range []*ledger.Ledger{a.events, a.issued} {
		if l != nil {
			all = append(all, l.Close())
		}
	}
	if a.tokens != nil {
		all = append(all, a.tokens.file.Close())
	}
	if a.lock != nil {
		if err := a.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Healthy tells whether the next certificate could be issued and recorded.
func (a *Authority) Healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.events.Healthy(), a.issued.Healthy(), a.tokens.file.Healthy())
}

func (a *Authority) openBooks() (err error) {
	if a.events, err = a.open(local.RosterFile, groupMode); err != nil {
		return err
	}
	if a.issued, err = a.open(IssuedFile, groupMode); err != nil {
		return err
	}
	if a.tokens, err = openTokens(a.o.FS, a.path(TokensFile), a.o.Now); err != nil {
		return err
	}
	a.roster = local.Roster(a.o.FS, a.o.Config.Dir)
	n, err := a.roster.Damaged()
	if err == nil && n > 0 {
		a.o.Log.Warn("rows of the roster cannot be read", "path", a.path(local.RosterFile), "rows", n)
	}
	return err
}

func (a *Authority) open(name string, perm os.FileMode) (*ledger.Ledger, error) {
	return ledger.Open(ledger.Options{FS: a.o.FS, Path: a.path(name), TimeKey: timeKey, Perm: perm, Now: a.o.Now})
}

func (a *Authority) path(name string) string { return filepath.Join(a.o.Config.Dir, name) }

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
