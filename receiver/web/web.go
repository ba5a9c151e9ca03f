// Package web is the operator's dashboard. It renders pages that work without JavaScript;
// a script replaces the parts that changed.
//
// model.go has what a page shows, templates/ how. The notes about hosts are its only
// document. It reads everything else from the ledgers and from serve's memory. It counts
// the episodes of the last 24 hours while the index grows, so that the fleet page never
// reads history. Text of hosts is shortened and escaped; commands to paste come from this
// receiver alone. Without the operator token there is only the sign-in page. A change
// needs a form with the code of its session.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
)

// Roster lists the hosts that should exist.
type Roster interface {
	All() ([]roster.Host, error)
}

// Options describe a dashboard.
type Options struct {
	Backend receiver.Backend
	// Tokens returns the tokens that can sign in; see receiver.Credentials.
	Tokens func() ([]receiver.Token, error)
	Roster Roster
	Build  version.Info
	// Contacts returns what serve knows of the hosts now.
	Contacts func() contacts.Contacts
	// Receivers returns all receivers, if there are several; nil: there is one.
	Receivers func() []cluster.Member
	// Copies reports that roster and releases are copies of those of another receiver, which
	// alone takes orders.
	Copies func() bool
	// Missing returns why the receiver does not accept episodes; empty: it does.
	Missing func() []string
	// Known finds a check of the lab hosts by its id; nil finds none.
	Known func(id string) (check.Check, bool)
	// Offered returns the version that a host should run; nil or "": none.
	Offered func(goos, arch string, h ident.Host) string
	// Silences stores silences; nil: the pages have no button for them.
	Silences Silences
	// Catalogue returns the catalogue of the episodes, or nil while there is none.
	Catalogue func() *catalogue.Catalogue
	// SendTar sends the tarballs of the episodes that a request's query selects; nil: nothing
	// can be downloaded so.
	SendTar func(http.ResponseWriter, *http.Request) error
	// TestNotify sends each notify target a test message and returns the results, by target;
	// nil: the pages have no button for it.
	TestNotify func(context.Context) map[string]error
	// Limits are those of fleet-check.
	Limits fleet.Limits
	// Connections returns the listener's counters; nil: zeros.
	Connections func() listen.Stats
	// From returns the client's address.
	From func(*http.Request) string
	// Reserve is how many bytes stay free on the disk.
	Reserve int64
	Now     func() time.Time
	Poll    time.Duration // shortest interval between two reads of the index; 0: a second
	Log     *slog.Logger
}

// Limits of wrong tokens: tries at once and then one in each refill for an address, and
// log lines for all addresses.
const (
	tries     = 5
	refill    = 10 * time.Second
	lineBurst = 20
	lineEvery = time.Minute
)

// Site is the dashboard. Its handlers may be called from many goroutines.
type Site struct {
	o       Options
	pages   map[string]*template.Template
	assets  map[string]asset
	origin  *http.CrossOriginProtection
	limit   *listen.Limiter // of wrong tokens, by address
	lines   *listen.Lines   // about them
	ingest  *ingest
	notes   *notebook
	gzip    func(http.Handler) http.HandlerFunc
	board   board
	streams streams
	drawn   chan struct{} // a place for each tarball that is being read
}

// New returns a dashboard. Run makes it count episodes.
func New(o Options) (*Site, error) {
	if o.Known == nil {
		o.Known = func(string) (check.Check, bool) { return check.Check{}, false }
	}
	if o.Receivers == nil {
		o.Receivers = func() []cluster.Member { return nil }
	}
	if o.Catalogue == nil {
		o.Catalogue = func() *catalogue.Catalogue { return nil }
	}
	if o.SendTar == nil {
		o.SendTar = func(http.ResponseWriter, *http.Request) error { return wire.NewProblem(wire.NotFound, "no catalogue") }
	}
	if o.Connections == nil {
		o.Connections = func() listen.Stats { return listen.Stats{} }
	}
	s := &Site{
		o: o, origin: http.NewCrossOriginProtection(), limit: listen.NewLimiter(tries, refill, o.Now), lines: listen.NewLines(lineBurst,
			lineEvery),
		ingest: newIngest(o), notes: &notebook{docs: o.Backend.Docs}, drawn: make(chan struct{}, maxDrawn),
	}
	s.streams.closed = make(chan struct{})
	var err error
	// The jitter hides the length of a page, which has text of the query beside its code.
	if s.gzip, err = gzhttp.NewWrapper(gzhttp.MinSize(minGzip), gzhttp.RandomJitter(gzipJitter, 0, false)); err != nil {
		return nil, fmt.Errorf("compress pages: %w", err)
	}
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	s.pages, err = s.parse()
	return s, err
}

// Run follows the index until ctx ends, and then ends the live streams.
func (s *Site) Run(ctx context.Context) error {
	defer s.streams.end()
	tick := time.NewTicker(max(followEvery, s.o.Poll))
	defer tick.Stop()
	logged := ""
	for {
		switch err := s.ingest.follow(s.o.Now()); {
		case err == nil:
			logged = ""
		case err.Error() != logged: // once, not every second
			logged = err.Error()
			s.o.Log.Error("cannot follow the index", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// handler answers a request. Its error is for the log: the error page was sent.
type handler = func(http.ResponseWriter, *http.Request) error

// Routes returns the dashboard's patterns for a ServeMux.
func (s *Site) Routes() map[string]handler {
	return map[string]handler{
		"GET /{$}":                    s.page(s.signedIn(s.fleet)),
		"GET /hosts/{host}":           s.page(s.signedIn(s.host)),
		"GET /episodes":               s.page(s.signedIn(s.episodes)),
		"GET /episodes.tar":           s.page(s.signedIn(s.o.SendTar)),
		"GET /episodes/{host}/{file}": s.page(s.signedIn(s.file)),
		"GET /releases":               s.page(s.signedIn(s.releases)),
		"POST /releases":              s.page(s.signedIn(s.changes(receiver.Release, s.order))),
		"GET /events":                 s.page(s.signedIn(s.events)),
		"GET /assets/{file}":          s.page(s.asset),
		"GET /sign-in":                s.page(s.signInForm),
		"POST /sign-in":               s.page(s.signIn),
		"POST /sign-out":              s.page(s.signedIn(s.changes(receiver.Read, s.signOut))),
		"POST /act":                   s.page(s.signedIn(s.changes(receiver.Operate, s.act))),
		"POST /hosts/{host}/notes":    s.page(s.signedIn(s.changes(receiver.Operate, s.setNotes))),
		"GET /alerts":                 s.page(s.signedIn(s.alerts)),
	}
}

// page sets the headers of every page and sends an error page if the handler fails.
func (s *Site) page(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		head := w.Header()
		head.Set(
			"Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
				"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cache-Control", "no-store")
		err := h(w, r)
		if err != nil && !errors.Is(err, errSent) {
			s.sendError(w, r, err)
		}
		return err
	}
}

// errSent marks an error after the first byte, which is too late for an error page.
var errSent = errors.New("answer cut off")

func (s *Site) sendError(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		p = wire.NewProblem(wire.Broken, "the page cannot be shown; the receiver's log has the reason")
	}
	_ = s.render(w, r, p.Status, "error", p.Title, p) // the first error counts
}

// Bounds of compression, in bytes.
const (
	minGzip    = 1024
	gzipJitter = 64
)

// NotFound answers a path that does not exist with a page.
func (s *Site) NotFound(w http.ResponseWriter, r *http.Request) error {
	return s.page(func(http.ResponseWriter, *http.Request) error {
		return wire.NewProblem(wire.NotFound, "no page %s", check.Sanitize(r.URL.Path, 80))
	})(w, r)
}

// board caches the model for a second, for all clients.
type board struct {
	mu    sync.Mutex
	at    time.Time
	model *model
	last  lastRun
}

// model returns the fleet as it is now, at most a second old.
func (s *Site) model() (*model, error) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	now := s.o.Now()
	if m := s.board.model; m != nil && now.Sub(s.board.at).Abs() < time.Second {
		return m, nil
	}
	m, err := s.buildModel(now)
	if err != nil {
		return nil, fmt.Errorf("read the state of the fleet: %w", err)
	}
	s.board.model, s.board.at = m, now
	return m, nil
}

// forget makes the next page build a new model.
func (s *Site) forget(old *model) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	if s.board.model == old {
		s.board.model = nil
	}
}
