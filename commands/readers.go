package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/peercred"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// Members of the group cis490-ops read the state of a receiver from serve, over a socket
// that has no other requests than these. Root reads the files.
const (
	readStatus  = "/v1/status"
	readHosts   = "/v1/hosts"
	readAlerts  = "/v1/alerts"
	readHistory = "/v1/alerts/history"
	readChecks  = "/v1/checks"
)

// Limits of the readers' socket.
const (
	readersAtOnce  = 4
	readersTimeout = 30 * time.Second
)

// joinReaders is how a user becomes one of them.
const joinReaders = "run it again with sudo; or to read without: sudo usermod -aG cis490-ops USER, and log in again"

// readers returns the requests of the readers' socket of the receiver with a config.
func (a *app) readers(p roleConfig, conf config.Receiver) http.Handler {
	mux, busy := http.NewServeMux(), make(chan struct{}, readersAtOnce)
	get := func(path string, read func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
				doc, err := read(r)
				sendReader(w, doc, err)
			case <-r.Context().Done():
			}
		})
	}
	get(readStatus, func(r *http.Request) (any, error) { return a.receiverStatus(r.Context(), p, conf) })
	get(readHosts, func(*http.Request) (any, error) { return a.fleetView(conf, p.path) })
	get(readHosts+"/{host}", func(r *http.Request) (any, error) {
		h, err := ident.ParseHost(r.PathValue("host"))
		if err != nil {
			return nil, err
		}
		return a.hostShown(conf, p.path, h)
	})
	get(readAlerts, func(*http.Request) (any, error) {
		last, err := a.lastRun(conf, p.path)
		return fleet.Last{At: last.At, Open: last.Open}, err
	})
	get(readHistory, func(r *http.Request) (any, error) {
		from, err := time.Parse(time.RFC3339Nano, r.FormValue("from"))
		if err != nil {
			return nil, err
		}
		return alertsSince(conf, p.path, from)
	})
	get(readChecks, func(r *http.Request) (any, error) { return a.receiverRows(r.Context(), p), nil })
	return mux
}

// sendReader sends a document, or an error with its fix.
func sendReader(w http.ResponseWriter, doc any, err error) {
	status, kind := http.StatusOK, wire.ContentTypeJSON
	if err != nil {
		problem := wire.NewProblem(wire.Broken, "%s", fault.Text(err))
		if problem.Title, problem.Fix = "cannot read", fault.FixOf(err); problem.Fix == "" {
			problem.Fix = "sudo cis490 doctor"
		}
		doc, status, kind = problem, problem.Status, wire.ContentTypeProblem
	}
	b, err := wire.Encode(doc)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client is gone
}

// serveReaders answers requests on the readers' socket until the context ends. On a machine
// without the socket's folder, as in the demo, there is none.
func (a *app) serveReaders(ctx context.Context, p roleConfig, conf config.Receiver, log *slog.Logger) {
	l, err := peercred.ListenGroup(local.ReadersSocket(conf.DataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		log.Warn("members of cis490-ops cannot read the state", "err", err, "fix", "sudo cis490 install receiver")
		return
	}
	server := &http.Server{Handler: a.readers(p, conf), ReadTimeout: readersTimeout, WriteTimeout: readersTimeout, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("the readers' socket has ended", "err", err)
	}
}

// read returns what here does. For a user who may use the readers' socket and is not root,
// serve does it.
func read[T any](ctx context.Context, conf config.Receiver, path string, here func() (T, error)) (doc T, err error) {
	socket := local.ReadersSocket(conf.DataDir)
	if os.Geteuid() != 0 {
		conn, err := peercred.Dial(ctx, socket)
		if err == nil {
			err = conn.Close()
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			s := peercred.Service{
				Name: "serve", Socket: socket, Start: "sudo systemctl start cis490-receiver   # then repeat the command", Timeout: readersTimeout,
			}
			return doc, s.Call(ctx, http.MethodGet, path, nil, &doc)
		}
	}
	if doc, err = here(); errors.Is(err, fs.ErrPermission) && fault.FixOf(err) == "" {
		err = fault.Fix(err, joinReaders)
	}
	return doc, err
}

// askServeForRows replaces the rows of a report that this user may not check by serve's.
func askServeForRows(ctx context.Context, path string, r *check.Report) {
	conf, _, err := config.LoadReceiver(path)
	if err != nil {
		return // a row says so
	}
	theirs, err := read(ctx, conf, readChecks, func() ([]check.Row, error) { return nil, nil })
	if err != nil {
		return // serve is down, as a row says
	}
	for i, row := range r.Checks {
		at := slices.IndexFunc(theirs, func(t check.Row) bool { return t.ID == row.ID })
		if row.Status == check.Skip && at >= 0 {
			r.Checks[i] = theirs[at]
		}
	}
	r.Summary = check.Summarize(r.Checks)
}

func readHost(h ident.Host) string { return readHosts + "/" + url.PathEscape(string(h)) }

func readSince(from time.Time) string {
	return fmt.Sprintf("%s?from=%s", readHistory, url.QueryEscape(from.Format(time.RFC3339Nano)))
}
