// Package web is the dashboard that serve shows to the operator: fleet, host and
// episode pages, rendered here, readable without JavaScript and live with it.
//
// It keeps nothing on disk: what it shows is read from the ledgers and from what
// serve knows, so a crash loses no more than a page view. Ingest of the last 24
// hours is counted while the index grows, so that a page never reads history.
// Everything that a host sent is shown as text and capped; what to paste comes
// from this receiver alone. Without the operator token it shows nothing but the
// sign-in, and it changes nothing without a form of its own.
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

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/roster"
)

// Roster lists the hosts that should exist.
type Roster interface {
	All() ([]roster.Host, error)
}

// Options describe a dashboard.
type Options struct {
	Backend  receiver.Backend
	Operator func() (string, error) // reads the operator token
	Roster   Roster
	Build    version.Info
	// Contacts returns what serve knows of the hosts now.
	Contacts func() contacts.Contacts
	// Missing tells what keeps the receiver from taking episodes.
	Missing func() []string
	// Known finds a check of the lab hosts' registry; nil knows none.
	Known func(id string) (check.Check, bool)
	// Offered returns the version that a host should run; nil or "": none is known.
	Offered func(ident.Host) string
	// Silences keeps silences; nil shows no button.
	Silences Silences
	// Fresh is how old a contact may be to speak for now.
	Fresh time.Duration
	// Connections returns what the listener counted; nil: nothing.
	Connections func() listen.Stats
	// From returns the address of who asks.
	From func(*http.Request) string
	// Reserve is how many bytes stay free on the disk.
	Reserve int64
	Now     func() time.Time
	Poll    time.Duration // shortest interval between two looks at the index; 0: a second
	Log     *slog.Logger
}

// Wrong tokens that one address may send, at once and then in each interval, and the
// lines about them all.
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
	board   board
	streams streams
	drawn   chan struct{} // a place for each tarball that is being read
}

// New returns a dashboard that knows of no ingest yet; see Run.
func New(o Options) (*Site, error) {
	if o.Known == nil {
		o.Known = func(string) (check.Check, bool) { return check.Check{}, false }
	}
	if o.Offered == nil {
		o.Offered = func(ident.Host) string { return "" }
	}
	if o.Connections == nil {
		o.Connections = func() listen.Stats { return listen.Stats{} }
	}
	s := &Site{
		o: o, origin: http.NewCrossOriginProtection(), limit: listen.NewLimiter(tries, refill, o.Now), lines: listen.NewLines(lineBurst, lineEvery),
		ingest: newIngest(o), drawn: make(chan struct{}, maxDrawn),
	}
	s.streams.closed = make(chan struct{})
	var err error
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
	said := ""
	for {
		switch err := s.ingest.follow(s.o.Now()); {
		case err == nil:
			said = ""
		case err.Error() != said: // once, not every second
			said = err.Error()
			s.o.Log.Error("the index is not followed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// handler answers, or returns why not; the error is for the log, its page was
// sent.
type handler = func(http.ResponseWriter, *http.Request) error

// Routes returns the dashboard's patterns for a ServeMux.
func (s *Site) Routes() map[string]handler {
	return map[string]handler{
		"GET /{$}":                    s.page(s.signedIn(s.fleet)),
		"GET /hosts/{host}":           s.page(s.signedIn(s.host)),
		"GET /episodes":               s.page(s.signedIn(s.episodes)),
		"GET /episodes/{host}/{file}": s.page(s.signedIn(s.file)),
		"GET /releases":               s.page(s.signedIn(s.releases)),
		"GET /events":                 s.page(s.signedIn(s.events)),
		"GET /assets/{file}":          s.page(s.asset),
		"GET /sign-in":                s.page(s.signInForm),
		"POST /sign-in":               s.page(s.signIn),
		"POST /sign-out":              s.page(s.signedIn(s.changes(s.signOut))),
		"POST /silence":               s.page(s.signedIn(s.changes(s.silence))),
	}
}

// page gives an answer the headers of all, and an error its page.
func (s *Site) page(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
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

// errSent marks an error that came too late for a page.
var errSent = errors.New("the answer was cut off")

func (s *Site) sendError(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		p = wire.NewProblem(wire.Broken, "the page could not be made; the receiver's log says why")
	}
	_ = s.render(w, r, p.Status, "error", p.Title, p) // err is the one to tell
}

// board keeps the model for the moment in which many may ask for it.
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
	m, err := s.look(now)
	if err != nil {
		return nil, fmt.Errorf("look at the fleet: %w", err)
	}
	s.board.model, s.board.at = m, now
	return m, nil
}
