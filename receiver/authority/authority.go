// Package authority issues the identities of the fleet. It is the only process that reads
// the CA key, and the only one that writes the roster, tokens, issued certificates and
// server certificates. Hosts use it over HTTPS, with a join token or with the key of their
// last certificate. Root uses it over a Unix socket.
//
// Its rows are durable before an answer is sent. A lost answer costs nothing, because the
// same key may ask again. The CA is one file, replaced by one rename; the next start
// derives the other files from it.
//
// It signs certificates only for the key of the named host, stores secrets only as digests,
// and locks its folder against a second process.
//
//storage:files its own folder, with the CA key, which no other program reads
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
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/listen"
	"cis490/internal/peercred"
	"cis490/internal/pki"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// The files in the authority's folder, beside local.RosterFile.
const (
	KeyFile       = "ca.key"        // key and certificate of the CA, then the older CAs that are still trusted; 0600
	CAFile        = "ca.crt"        // the CA's certificate
	TrustFile     = "trust.pem"     // all trusted CAs; serve verifies hosts with them
	ServerFile    = "server.pem"    // certificate and key of serve's listener; readable by its group
	ListenerFile  = "authority.pem" // certificate and key of the authority's own listener
	TokensFile    = "tokens.jsonl"
	IssuedFile    = "issued.jsonl"
	ReceiversFile = "receivers.jsonl" // invitations and server certificates of other receivers
	ReleaseKeys   = "release-keys"    // minisign public keys for the hosts, one per line
	timeKey       = "at"
	maxFile       = 1 << 20
	privateMode   = 0o600
	groupMode     = 0o640
	publicMode    = 0o644
	folderMode    = 0o750
	adminDeadline = 5 * time.Second
	adminTimeout  = 30 * time.Second // for reading a request on the admin socket, and for its answer
)

// Limits of clients: connections before and after they are verified, and connections of a
// host. An address may have burst rejected requests at once, then one per refill; the same
// limit holds for the log lines about all addresses. The connection of an unknown client
// takes at most 90 KiB.
const (
	unverifiedConns = 256
	verifiedConns   = 256
	hostConns       = 2
	burst           = 20
	refill          = 6 * time.Second
)

// Limits of a host's certificates: some at once, because an answer may be lost, then one
// per 1/certShare of a certificate's life. Each is a row of the roster that stays.
const (
	certBurst = 20
	certShare = 50
)

// Options describe an authority.
type Options struct {
	Config    config.Authority
	PublicURL string // of the receiver
	Hostname  string // another name for the server certificates; may be empty
	// Root is a file with the root of the certificate that the receiver, or a proxy in front
	// of it, presents; empty if the authority issued that certificate.
	Root string
	// PinFile is the path that the function PinFile returns; empty: no pin is recorded.
	PinFile   string
	Balancers []netip.Prefix // see listen.Options
	FS        disk.FS
	Log       *slog.Logger
	Now       func() time.Time
	// Listen and Admin open the listeners; nil: the machine's.
	Listen func(network, address string) (net.Listener, error)
	Admin  func(path string) (net.Listener, error)
	Notify func(state string) // reports "READY=1" and "WATCHDOG=1" to the service manager; nil: does nothing
	// Poll is the shortest interval between two checks of the server certificates; 0: it
	// depends on their life.
	Poll time.Duration
}

// Authority issues identities. Only one may use a folder.
type Authority struct {
	o           Options
	names       []string // of the server certificates on this machine
	publicNames []string // of those on other receivers
	lock        io.Closer

	listener net.Listener
	admin    net.Listener
	roster   *roster.View
	limit    *listen.Limiter // of refused requests, by address
	lines    *listen.Lines   // about them
	certs    *listen.Limiter // by host
	joins    *joins

	mu        sync.Mutex // serializes changes; guards the fields below
	ca        ca
	root      []*x509.Certificate // from Options.Root
	events    journal             // roster.jsonl
	issued    journal
	tokens    *tokenStore
	receivers journal
	others    map[ident.Host]*receiver

	shared *shared // nil: the files are all there is
}

// journal is a file of rows.
type journal interface {
	Append(build func(at time.Time) any) error
	Healthy() error
	Close() error
}

// New opens the authority's folder, creates missing files, and listens. Run answers
// requests.
func New(o Options) (_ *Authority, err error) {
	a, err := lock(o)
	if err == nil {
		err = a.start()
	}
	if err != nil && a != nil {
		err = errors.Join(err, a.Close())
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// lock locks the authority's folder.
func lock(o Options) (_ *Authority, err error) {
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
	if a.publicNames, err = serverNames([]string{o.PublicURL}, o.Config.Names...); err != nil {
		return nil, err
	}
	if a.names, err = serverNames([]string{o.PublicURL, o.Config.URL}, slices.Concat(o.Config.Names, []string{o.Hostname})...); err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(o.FS, o.Config.Dir, folderMode); err != nil {
		return nil, fault.Fix(fmt.Errorf("make the authority's folder: %w", err), "sudo cis490 install receiver")
	}
	if l, ok := o.FS.(disk.Locker); ok {
		if a.lock, err = l.Lock(o.Config.Dir); err != nil {
			return nil, fault.Fix(err, "systemctl status cis490-bootstrap   # only one authority may run on a folder")
		}
	}
	return a, nil
}

// start reads the files, and listens.
func (a *Authority) start() error {
	o := a.o
	if err := a.openCA(); err != nil {
		return err
	}
	if err := a.readRoot(); err != nil {
		return err
	}
	if err := a.openLedgers(); err != nil {
		return err
	}
	if err := a.ensureServerCerts(); err != nil {
		return err
	}
	tcp, err := o.Listen("tcp", o.Config.Listen)
	if err != nil {
		return fault.Fix(fmt.Errorf("listen: %w", err), "ss -ltnp   # shows who has the port; or set [authority] listen in receiver.toml")
	}
	a.listener = listen.New(tcp, listen.Options{
		TLS: pki.ServerTLS(pki.NewPair(o.FS, a.path(ListenerFile))), Unverified: unverifiedConns, Verified: verifiedConns,
		Balancers: o.Balancers, Log: o.Log,
	})
	// With port 0, tokens carry the port that the system chose.
	if u, err := url.Parse(o.Config.URL); err == nil && u.Port() == "0" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(a.listener.Addr().(*net.TCPAddr).Port))
		a.o.Config.URL = u.String()
	}
	a.admin, err = o.Admin(o.Config.Socket)
	return err
}

// Addr returns the address of the HTTPS listener.
func (a *Authority) Addr() net.Addr { return a.listener.Addr() }

// Run answers requests and renews the server certificates until the context ends. The
// caller must call Close afterwards.
func (a *Authority) Run(ctx context.Context) error {
	public := listen.Server(a.publicRoutes(), a.o.Log)
	admin := &http.Server{Handler: a.adminRoutes(), ReadTimeout: adminTimeout, WriteTimeout: adminTimeout, ConnContext: peercred.WithCaller}
	a.o.Notify("READY=1")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ignoreClosed(public.Serve(a.listener)) })
	g.Go(func() error { return ignoreClosed(admin.Serve(a.admin)) })
	g.Go(func() error {
		a.renewServerCerts(ctx)
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDeadline)
		defer cancel()
		return errors.Join(public.Shutdown(stop), admin.Shutdown(stop))
	})
	return g.Wait()
}

// Close closes files and listeners. It may be called twice.
func (a *Authority) Close() error {
	var all []error
	for _, l := range []net.Listener{a.listener, a.admin} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				all = append(all, err)
			}
		}
	}
	for _, l := range a.journals() {
		all = append(all, l.Close())
	}
	if a.lock != nil {
		if err := a.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Healthy returns an error if the next certificate could not be recorded.
func (a *Authority) Healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []error
	for _, l := range a.journals() {
		all = append(all, l.Healthy())
	}
	return errors.Join(append(all, a.holds())...)
}

// journals returns the files that are open.
func (a *Authority) journals() (all []journal) {
	for _, l := range []journal{a.events, a.issued, a.receivers} {
		if l != nil {
			all = append(all, l)
		}
	}
	if a.tokens != nil {
		all = append(all, a.tokens.file)
	}
	return all
}

func (a *Authority) openLedgers() (err error) {
	if a.events, err = a.open(local.RosterFile, groupMode); err != nil {
		return err
	}
	if a.issued, err = a.open(IssuedFile, groupMode); err != nil {
		return err
	}
	file, err := a.open(TokensFile, privateMode)
	if err != nil {
		return err
	}
	if a.tokens, err = openTokens(file, a.o.FS, a.path(TokensFile), a.o.Now); err != nil {
		return err
	}
	if err := a.openReceivers(); err != nil {
		return err
	}
	a.roster = local.Roster(a.o.FS, a.o.Config.Dir)
	n, err := a.roster.Damaged()
	if err == nil && n > 0 {
		a.o.Log.Warn("rows of the roster cannot be read", "path", a.path(local.RosterFile), "rows", n)
	}
	return err
}

func (a *Authority) open(name string, perm os.FileMode) (journal, error) {
	o := ledger.Options{FS: a.o.FS, Path: a.path(name), TimeKey: timeKey, Perm: perm, Now: a.o.Now}
	if a.shared != nil {
		return a.shared.open(name, o)
	}
	l, err := ledger.Open(o)
	if err != nil {
		return nil, err // not a nil *ledger.Ledger
	}
	return l, nil
}

func (a *Authority) path(name string) string { return filepath.Join(a.o.Config.Dir, name) }

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
