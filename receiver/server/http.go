package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/wire"
	"cis490/receiver"
)

// handler handles a route: it answers, or returns an error that becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

// refusal is a problem with its private cause, which is logged but not sent.
type refusal struct {
	*wire.Problem
	cause error
}

func (e *refusal) Error() string   { return e.Problem.Error() + ": " + e.cause.Error() }
func (e *refusal) Unwrap() []error { return []error{e.Problem, e.cause} }

func refuse(p *wire.Problem, cause error) error { return &refusal{p, cause} }

// problemOf returns the problem that is sent for an error.
func problemOf(err error) *wire.Problem {
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return p
	}
	if errors.Is(err, receiver.ErrFull) {
		p := wire.NewProblem(wire.Full, "free space is at the reserve")
		if fix := fault.FixOf(err); fix != "" { // of a storage beyond this machine
			p = wire.NewProblem(wire.Full, "the storage of episodes is full")
			p.Fix = "on the receiver: " + fix
		}
		p.RetryAfter = 60
		return p
	}
	// Random, so that a fleet does not come back within one second.
	if errors.Is(err, receiver.ErrBusy) {
		p := wire.NewProblem(wire.NotReady, "the storage of episodes is busy or away")
		p.RetryAfter = 15 + rand.IntN(46)
		return p
	}
	if errors.Is(err, receiver.ErrUnavailable) {
		p := wire.NewProblem(wire.NotReady, "the storage of rows is unavailable")
		p.RetryAfter = 5 + rand.IntN(11)
		return p
	}
	if errors.Is(err, receiver.ErrUnready) {
		p := wire.NewProblem(wire.NotReady, "the storage of episodes cannot be used; GET /readyz says why")
		p.RetryAfter = 60 + rand.IntN(61)
		return p
	}
	return wire.NewProblem(wire.Broken, "the request failed in the receiver; send it again")
}

// request collects the data of a request for its log line and its rejection.
type request struct {
	route      receiver.Route
	host       ident.Host // verified or not
	verified   bool
	known      bool // the host is in the roster
	identified bool
	episode    ident.EpisodeID
	digest     ident.Digest
	commit     ident.Commit
	bytes      int64 // bytes of the body that were read
}

type requestKey struct{}

func requestOf(r *http.Request) *request {
	if n, ok := r.Context().Value(requestKey{}).(*request); ok {
		return n
	}
	return &request{}
}

// allRoutes returns all patterns of the listener.
func (s *Server) allRoutes() map[string]handler {
	all := s.routes()
	maps.Copy(all, s.fleetRoutes())
	maps.Copy(all, s.dataRoutes())
	for pattern, h := range s.web.Routes() {
		all[pattern] = h
	}
	return all
}

func (s *Server) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range s.allRoutes() {
		mux.Handle(pattern, routed(h))
	}
	return mux
}

// handler returns the HTTP handler, which routes, encodes rejections and writes the
// access log.
func (s *Server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &request{}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, n))
		cw := &counted{ResponseWriter: w, idle: s.o.Config.Limits.IdleTimeout.D()}
		if r.ContentLength != 0 {
			// For bodies that no handler reads, because net/http may read them before the
			// answer. It fails only with test recorders.
			_ = http.NewResponseController(w).SetReadDeadline(start.Add(cw.idle))
		}
		open := s.opened()
		answer := s.route
		if !open {
			answer = s.unopened
		}
		err := answer(cw, r)
		if err != nil {
			s.answerProblem(cw, r, n, problemOf(err))
		}
		took := time.Since(start)
		if open {
			s.recordEnd(n, err)
			s.measure(r, n, cw.status, took, err)
		}
		s.access(r, n, cw, took, err)
	})
}

// unopened answers requests while the files cannot be opened.
func (s *Server) unopened(w *counted, r *http.Request) error {
	if r.URL.Path == wire.HealthzPath {
		return s.getHealthz(w, r)
	}
	return s.getReadyz(w, r)
}

// routed is a handler in a mux whose error the caller needs.
func routed(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := w.(*counted); ok {
			c.err = h(w, r)
		}
	})
}

// route returns the handler. It refuses paths that clients of this program never send,
// before the mux would clean and redirect them.
func (s *Server) route(w *counted, r *http.Request) (err error) {
	if r.URL.RawPath != "" || strings.ContainsRune(r.URL.Path, 0) || path.Clean(r.URL.Path) != r.URL.Path || len(r.URL.Path) > 512 {
		return wire.NewProblem(wire.Malformed, "path %.80q is not in canonical form", r.URL.EscapedPath())
	}
	h, pattern := s.mux.Handler(r)
	if pattern == "" {
		var probe statusOnly
		h.ServeHTTP(&probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.Header().Get("Allow"))
			return wire.NewProblem(wire.BadMethod, "%s accepts %s, not %.20q", r.URL.Path, probe.Header().Get("Allow"), r.Method)
		}
		if strings.Contains(r.Header.Get("Accept"), "text/html") && r.Method == http.MethodGet { // a person
			return s.web.NotFound(w, r)
		}
		return wire.NewProblem(wire.NotFound, "path %.80q", r.URL.Path)
	}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: // half a stream was sent: the connection ends
			panic(p)
		default:
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	s.mux.ServeHTTP(w, r) // not h, because the mux sets the path values
	return w.err
}

// answer sends a JSON body.
func answer(w http.ResponseWriter, status int, body any) error {
	b, err := wire.Encode(body)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", wire.ContentTypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone; the access log has the bytes sent
	return nil
}

// answerProblem sends a problem, and records it if it is for a host.
func (s *Server) answerProblem(w *counted, r *http.Request, n *request, p *wire.Problem) {
	if n.route != "" {
		s.recordRejection(n, p)
	}
	if w.status != 0 {
		return // too late: a part of an answer was sent
	}
	b, err := wire.Encode(p)
	if err != nil {
		b = []byte("{}")
	}
	w.Header().Set("Content-Type", wire.ContentTypeProblem)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.Header().Set("Cache-Control", "no-store")
	if p.Kind == wire.NotReady && (s.o.Backend.Peers != nil || len(s.o.Config.Balancer.From) > 0) {
		// The next connection may lead to another receiver, once the balancer has noticed.
		w.Header().Set("Connection", "close")
		if s.o.Cluster.OthersReady() {
			p.RetryAfter = 2 + rand.IntN(2)
		}
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(b, '\n'))
	}
}

func (s *Server) recordRejection(n *request, p *wire.Problem) {
	row := receiver.Rejection{
		Verified: n.verified, Route: n.route, Status: p.Status, Kind: p.Kind, Detail: p.Detail,
		Episode: n.episode, Commit: n.commit,
	}
	if n.identified || n.known {
		row.Host = n.host
	} else {
		row.Detail = "host " + string(n.host) + ": " + row.Detail
	}
	s.rejections.Note(row)
	if n.identified && n.route == receiver.RouteEpisode {
		s.contacts.RefusedPut(n.host, p)
	}
}

// access logs a finished request. Lines about unknown clients, and about each host's
// rejected requests, are rate-limited.
func (s *Server) access(r *http.Request, n *request, w *counted, took time.Duration, err error) {
	level := slog.LevelInfo
	switch {
	case err != nil && w.status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case err == nil && (r.Method == http.MethodGet || n.route == receiver.RoutePing || n.route == receiver.RouteSnapshot),
		w.status == http.StatusNotFound && r.URL.Path == wire.ReleasesPath:
		level = slog.LevelDebug // frequent requests of all hosts, which contacts.json records
	}
	omitted := 0
	if level > slog.LevelDebug && !n.identified && !listen.IsVerified(r.Context()) {
		var ok bool
		if omitted, ok = s.lines(n).Next(); !ok {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("method", check.Sanitize(r.Method, 16)), slog.String("path", check.Sanitize(r.URL.Path, 160)),
		slog.Int("status", w.status), slog.String("from", s.from(r)), slog.Duration("dur", took),
	}
	if n.host != "" {
		attrs = append(attrs, slog.String("host", string(n.host)))
	}
	if n.episode != "" {
		attrs = append(attrs, slog.String("episode", string(n.episode)))
	}
	if n.bytes > 0 {
		attrs = append(attrs, slog.Int64("bytes", n.bytes))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", check.Sanitize(err.Error(), 400)))
	}
	if omitted > 0 {
		attrs = append(attrs, slog.Int("omitted", omitted))
	}
	s.o.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// counted is a ResponseWriter that records status and size, and closes the connection of
// a client that does not receive for the idle timeout.
type counted struct {
	http.ResponseWriter
	idle   time.Duration
	status int
	err    error
}

// Unwrap is for http.ResponseController.
func (w *counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader records the status.
func (w *counted) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
	}
	w.deadline()
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (w *counted) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.deadline()
	return w.ResponseWriter.Write(b)
}

func (w *counted) deadline() {
	// Fails only with test recorders.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.idle))
}

// statusOnly sends no body, for routes that need only the status.
type statusOnly struct {
	status int
	header http.Header
}

func (p *statusOnly) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{}
	}
	return p.header
}
func (p *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusOnly) WriteHeader(status int)      { p.status = status }
