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

func (a *Authority) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", notFound)
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		var ask TokenRequest
		err := readAdmin(w, r, &ask)
		if err == nil {
			var made []CreatedToken
			if made, err = a.createTokens(ask, caller(r)); err == nil {
				sendJSON(w, http.StatusOK, made)
				return
			}
		}
		a.rejectAdmin(w, r, err)
	})
	mux.HandleFunc("GET /v1/tokens", func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, http.StatusOK, a.listTokens()) })
	mux.HandleFunc("GET /v1/hosts", func(w http.ResponseWriter, r *http.Request) {
		all, err := a.roster.All()
		if err != nil {
			a.rejectAdmin(w, r, err)
			return
		}
		sendJSON(w, http.StatusOK, all)
	})
	mux.HandleFunc("GET /v1/hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		h, err := a.showHost(r.PathValue("host"))
		if err != nil {
			a.rejectAdmin(w, r, err)
			return
		}
		sendJSON(w, http.StatusOK, h)
	})
	mux.HandleFunc("GET /v1/joins", func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, http.StatusOK, a.joins.waiting()) })
	mux.HandleFunc("POST /v1/joins", func(w http.ResponseWriter, r *http.Request) {
		var ask Approval
		err := readAdmin(w, r, &ask)
		if err == nil {
			var done Approved
			if done, err = a.approve(ask, caller(r)); err == nil {
				sendJSON(w, http.StatusOK, done)
				return
			}
		}
		a.rejectAdmin(w, r, err)
	})
	change := func(pattern string, do func(h ident.Host, by string) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h, err := ident.ParseHost(r.PathValue("host"))
			if err == nil {
				err = do(h, caller(r))
			}
			if err != nil {
				a.rejectAdmin(w, r, err)
				return
			}
			sendJSON(w, http.StatusOK, struct{}{})
		})
	}
	change("DELETE /v1/tokens/{host}", a.revokeToken)
	mux.HandleFunc("DELETE /v1/patterns/{pattern}", func(w http.ResponseWriter, r *http.Request) {
		p, err := ident.ParsePattern(r.PathValue("pattern"))
		if err == nil {
			err = a.revokePattern(p, caller(r))
		}
		if err != nil {
			a.rejectAdmin(w, r, err)
			return
		}
		sendJSON(w, http.StatusOK, struct{}{})
	})
	change("POST /v1/hosts/{host}/decommission", a.decommission)
	change("POST /v1/hosts/{host}/readmit", a.readmit)
	for pattern, do := range map[string]func() error{"POST /v1/ca/rotate": a.rotate, "POST /v1/ca/retire": a.retire} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			err := do()
			a.mu.Unlock()
			if err != nil {
				a.rejectAdmin(w, r, err)
				return
			}
			a.o.Log.Warn("changed which CAs are trusted", "path", r.URL.Path, "by", caller(r))
			sendJSON(w, http.StatusOK, a.describeCA())
		})
	}
	mux.HandleFunc("GET /v1/ca", func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, http.StatusOK, a.describeCA()) })
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
