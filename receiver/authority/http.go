package authority

import (
	"errors"
	"net"
	"net/http"
	"strconv"

	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// maxRequest bounds a request's body in bytes.
const maxRequest = 16 << 10

// publicPatterns returns the routes of the network API.
func (a *Authority) publicPatterns() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET " + wire.CAPath:                                       a.getCA,
		"GET " + wire.AuthorityHealthPath:                          a.getHealth,
		"POST " + wire.CertPrefix + "{host}":                       a.forHost(a.postCert),
		"POST " + wire.CertPrefix + "{host}" + wire.ServerSuffix:   a.forHost(a.postServerCert),
		"POST " + wire.CertPrefix + "{host}" + wire.JoinSuffix:     a.forHost(a.startJoin),
		"POST " + wire.CertPrefix + "{host}" + wire.JoinWaitSuffix: a.forHost(a.waitJoin),
	}
}

func (a *Authority) publicRoutes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range a.publicPatterns() {
		mux.HandleFunc(pattern, h)
	}
	mux.HandleFunc("/", notFound)
	return mux
}

func (a *Authority) getCA(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	b := pki.EncodeCerts(a.bundle()...)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(b) // the client is gone
}

func (a *Authority) getHealth(w http.ResponseWriter, _ *http.Request) {
	if err := a.Healthy(); err != nil {
		if omitted, ok := a.lines.Next(); ok {
			a.o.Log.Error("authority cannot record", "err", err, "omitted", omitted)
		}
		sendProblem(w, wire.NewProblem(wire.NotReady, "the authority cannot record what it would issue"))
		return
	}
	sendJSON(w, wire.AuthorityHealth{Status: "ok", ReleaseKeys: a.releaseKeys()})
}

// forHost handles a request of an unknown client about a host. It bounds the body.
func (a *Authority) forHost(do func(r *http.Request, h ident.Host, from string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		h, err := ident.ParseHost(r.PathValue("host"))
		if err != nil {
			a.rejectRequest(w, r, from, wire.NewProblem(wire.Malformed, "%v", err))
			return
		}
		out, err := do(r, h, from)
		if err != nil {
			a.rejectRequest(w, r, from, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		sendJSON(w, out)
	}
}

// rejectRequest answers a failed request, and logs it within the limits of unknown clients.
func (a *Authority) rejectRequest(w http.ResponseWriter, r *http.Request, from string, err error) {
	omitted, allowed := a.lines.Next()
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		if allowed {
			a.o.Log.Error("the authority failed", "path", r.URL.Path, "host", r.PathValue("host"), "from", from, "err", err, "omitted", omitted)
		}
		p = wire.NewProblem(wire.Broken, "the authority failed; its journal has the reason")
		if a.shared != nil { // another machine may have the authority meanwhile, or this one in some seconds
			p = standsBy("")
		}
		sendProblem(w, p)
		return
	}
	// Only failures are limited: a host behind the same address as an attacker still gets
	// its certificate.
	if !a.limit.Allow(listen.Source(from)) {
		p = wire.NewProblem(wire.Busy, "too many rejected requests from %s", from)
		p.RetryAfter = int(refill.Seconds())
	} else if a.holds() != nil { // what this machine knows may be out of date
		p = standsBy("")
	}
	if allowed {
		a.o.Log.Warn("rejected certificate request", "host", r.PathValue("host"), "from", from,
			"status", p.Status, "kind", string(p.Kind), "err", p, "omitted", omitted)
	}
	sendProblem(w, p)
}

func (a *Authority) postCert(r *http.Request, h ident.Host, from string) (any, error) {
	var req wire.CertRequest
	if err := decode(r.Body, &req); err != nil {
		return nil, err
	}
	out, err := a.certify(h, req, from)
	if err == nil {
		listen.Verified(r.Context(), string(h), hostConns)
	}
	return out, err
}

func notFound(w http.ResponseWriter, r *http.Request) {
	sendProblem(w, wire.NewProblem(wire.NotFound, "%s %s", r.Method, r.URL.Path))
}

func sendProblem(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Content-Type", wire.ContentTypeProblem)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	send(w, p.Status, p)
}

func sendJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", wire.ContentTypeJSON)
	send(w, http.StatusOK, v)
}

func send(w http.ResponseWriter, status int, v any) {
	b, err := wire.Encode(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone: it repeats the request
}
