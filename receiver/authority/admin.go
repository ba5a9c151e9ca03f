package authority

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/peercred"
	"cis490/internal/wire"
)

// listenAdmin opens the Unix socket for root's commands. It replaces an existing socket:
// the lock on the authority's folder proves that no process uses it.
func listenAdmin(path string) (net.Listener, error) {
	if err := disk.MkdirAll(disk.OS{}, filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's folder: %w", err)
	}
	l, err := peercred.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// maxAdminRequest bounds a request's body in bytes.
const maxAdminRequest = 1 << 20

func (a *Authority) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", notFound)
	handle := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxAdminRequest)
			if out, err := do(r); err != nil {
				a.rejectAdmin(w, r, err)
			} else {
				sendJSON(w, out)
			}
		})
	}
	change := func(pattern string, do func(h ident.Host, by string) error) {
		handle(pattern, func(r *http.Request) (any, error) {
			h, err := ident.ParseHost(r.PathValue("host"))
			if err == nil {
				err = do(h, caller(r))
			}
			return struct{}{}, err
		})
	}
	changeCA := func(pattern string, do func() error) {
		handle(pattern, func(r *http.Request) (any, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if err := do(); err != nil {
				return nil, err
			}
			a.o.Log.Warn("changed which CAs are trusted", "path", r.URL.Path, "by", caller(r))
			return a.describeCA(), nil
		})
	}
	handle("GET /v1/tokens", func(*http.Request) (any, error) { return a.listTokens(), nil })
	handle("POST /v1/tokens", func(r *http.Request) (any, error) {
		var req TokenRequest
		if err := decode(r.Body, &req); err != nil {
			return nil, err
		}
		return a.createTokens(req, caller(r))
	})
	change("DELETE /v1/tokens/{host}", a.revokeToken)
	handle("DELETE /v1/patterns/{pattern}", func(r *http.Request) (any, error) {
		p, err := ident.ParsePattern(r.PathValue("pattern"))
		if err == nil {
			err = a.revokePattern(p, caller(r))
		}
		return struct{}{}, err
	})
	handle("GET /v1/hosts", func(*http.Request) (any, error) { return a.roster.All() })
	handle("GET /v1/hosts/{host}", func(r *http.Request) (any, error) { return a.showHost(r.PathValue("host")) })
	change("POST /v1/hosts/{host}/decommission", a.decommission)
	change("POST /v1/hosts/{host}/readmit", a.readmit)
	handle("GET /v1/receivers", func(*http.Request) (any, error) { return a.listReceivers(), nil })
	handle("POST /v1/receivers/{host}", func(r *http.Request) (any, error) {
		name, err := ident.ParseHost(r.PathValue("host"))
		if err != nil {
			return nil, err
		}
		return a.invite(name, caller(r))
	})
	change("DELETE /v1/receivers/{host}", a.revokeReceiver)
	handle("GET /v1/state", func(*http.Request) (any, error) { return State{Active: true}, nil })
	handle("GET /v1/joins", func(*http.Request) (any, error) { return a.joins.waiting(), nil })
	handle("POST /v1/joins", func(r *http.Request) (any, error) {
		var req Approval
		if err := decode(r.Body, &req); err != nil {
			return nil, err
		}
		return a.approve(req, caller(r))
	})
	handle("GET /v1/ca", func(*http.Request) (any, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.describeCA(), nil
	})
	changeCA("POST /v1/ca/rotate", a.rotate)
	changeCA("POST /v1/ca/retire", a.retire)
	return a.onlyRoot(mux)
}

func (a *Authority) onlyRoot(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := peercred.Caller(r.Context())
		if !ok || !peercred.Permitted(cred, os.Getuid()) {
			a.o.Log.Warn("rejected request at the admin socket", "uid", cred.Uid, "pid", cred.Pid, "path", r.URL.Path)
			p := wire.NewProblem(wire.Unauthorized, "user %d may not send commands to the authority", cred.Uid)
			p.Title, p.Fix = "needs root", "run it again with sudo"
			sendProblem(w, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// caller returns the name of the caller for log and roster.
func caller(r *http.Request) string {
	cred, _ := peercred.Caller(r.Context())
	return fmt.Sprintf("admin uid=%d", cred.Uid)
}
