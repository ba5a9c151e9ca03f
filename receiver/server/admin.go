package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"cis490/internal/ident"
	"cis490/internal/peercred"
	"cis490/internal/wire"
	"cis490/receiver"
)

// archiveTimeout bounds one archive request, whose answer waits for the disk. The
// request's header must arrive within adminHeader.
const (
	archiveTimeout = 10 * time.Minute
	adminHeader    = 10 * time.Second
)

// Archived is the answer to an archive request.
type Archived struct {
	Archived []ident.EpisodeID `json:"archived"`
}

// admin serves root over a Unix socket until ctx ends, for actions that only the serving
// process can do. The socket is not part of the network API, and the operator token does
// not give access to it.
func (s *Server) admin(ctx context.Context) error {
	if s.o.Admin == "" {
		return nil
	}
	l, err := peercred.Listen(s.o.Admin)
	if err != nil {
		s.o.Log.Error("cannot serve the admin socket", "err", err)
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/archive/{host}", routed(s.archive))
	mux.Handle("GET "+wire.EpisodesPath, routed(s.getEpisodes))
	mux.Handle("GET /v1/catalogue", routed(s.adminCatalogue))
	mux.Handle("POST /v1/catalogue", routed(s.adminCatalogue))
	mux.Handle("POST /v1/compare", routed(s.compareNow))
	server := &http.Server{
		ReadHeaderTimeout: adminHeader, ConnContext: peercred.WithCaller,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cw := &counted{ResponseWriter: w, idle: archiveTimeout}
			if cred, known := peercred.Caller(r.Context()); known && peercred.Permitted(cred, syscall.Geteuid()) {
				mux.ServeHTTP(cw, r)
			} else {
				p := wire.NewProblem(wire.Unauthorized, "user %d may not use the admin socket", cred.Uid)
				p.Title, p.Fix = "needs root", "run it again with sudo"
				cw.err = p
			}
			if cw.err != nil {
				s.o.Log.Warn("rejected request at the admin socket", "path", r.URL.Path, "err", cw.err)
				s.answerProblem(cw, r, &request{}, problemOf(cw.err))
			}
		}),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// archive removes tarballs whose copies the caller vouches for.
func (s *Server) archive(w http.ResponseWriter, r *http.Request) error {
	host, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	var in wire.Reconcile
	if err := s.readJSON(w, r, maxReconcile, &in); err != nil {
		return err
	}
	want := map[ident.EpisodeID]ident.Digest{}
	for _, p := range in.Episodes {
		want[p.Episode] = p.Digest
	}
	done, freed, err := s.store.Archive(host, want)
	if err != nil {
		return err
	}
	s.quotas.gone(host, freed)
	s.o.Log.Info("episodes archived", "host", host, "count", len(done), "bytes", freed)
	return answer(w, http.StatusOK, Archived{done})
}

// compareNow compares rows and tarballs at once.
func (s *Server) compareNow(w http.ResponseWriter, r *http.Request) error {
	found, err := s.compareOnce(r.Context())
	if held, other := errors.AsType[*receiver.HeldError](err); other {
		p := wire.NewProblem(wire.Busy, "%s compares rows and tarballs now", held.Holder)
		p.RetryAfter = 60
		return p
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, found)
}

// AskArchive asks the serve at a socket to remove a host's tarballs that were copied, and
// returns those that are archived.
func AskArchive(ctx context.Context, socket string, h ident.Host, pairs []wire.Pair) ([]ident.EpisodeID, error) {
	var out Archived
	err := adminAt(socket).Call(ctx, http.MethodPost, "/v1/archive/"+string(h), wire.Reconcile{Episodes: pairs}, &out)
	return out.Archived, err
}

// AskCompare asks the serve at a socket to compare rows and tarballs now.
func AskCompare(ctx context.Context, socket string) (out receiver.Comparison, err error) {
	return out, adminAt(socket).Call(ctx, http.MethodPost, "/v1/compare", nil, &out)
}

// adminAt returns the admin service of the serve at a socket.
func adminAt(socket string) peercred.Service {
	return peercred.Service{
		Name: "serve", Socket: socket, Start: "sudo systemctl start cis490-receiver   # then repeat the command", Timeout: archiveTimeout,
	}
}
