package server

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"time"

	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/catalogue"
)

// catalogueAgain is the pause before the catalogue is opened again.
const catalogueAgain = 10 * time.Second

// runCatalogue opens the catalogue and keeps it up to date until the context ends. The
// receiver works without one, so an error only delays the next try; a damaged catalogue is
// rebuilt.
func (s *Server) runCatalogue(ctx context.Context) error {
	if s.o.Catalogue == "" {
		return nil
	}
	failed := ""
	for ctx.Err() == nil {
		err := s.catalogueOnce(ctx)
		if errors.Is(err, catalogue.ErrDamaged) || errors.Is(err, errRebuild) {
			s.o.Log.Warn("rebuilding the catalogue", "err", err)
			if err = catalogue.Remove(s.o.Catalogue); err == nil {
				continue
			}
		}
		if err != nil && err.Error() != failed {
			s.o.Log.Error("no catalogue of the episodes", "err", err)
			failed = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(catalogueAgain):
		}
	}
	return nil
}

// errRebuild is a request of root.
var errRebuild = errors.New("as asked for")

func (s *Server) catalogueOnce(ctx context.Context) error {
	c, err := catalogue.Open(s.o.Catalogue, s.store.ID(), catalogue.LimitsOf(s.o.Config.Limits))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.catalogue.Store(&openCatalogue{c, func() { cancel(errRebuild) }})
	err = c.Run(ctx, catalogue.Source{Index: s.o.Backend.Index, Episodes: s.o.Backend.Episodes, Log: s.o.Log.With("component", "catalogue")})
	s.catalogue.Store(nil)
	if errors.Is(context.Cause(ctx), errRebuild) {
		err = errors.Join(err, errRebuild)
	}
	return errors.Join(err, c.Close())
}

// openCatalogue is the catalogue while it is open.
type openCatalogue struct {
	*catalogue.Catalogue
	rebuild func()
}

func (s *Server) openCatalogue() (*openCatalogue, error) {
	if c := s.catalogue.Load(); c != nil {
		return c, nil
	}
	return nil, wire.NewProblem(wire.NotReady, "the catalogue of the episodes is not open")
}

// dataRoutes are the routes to the data.
func (s *Server) dataRoutes() map[string]handler {
	return map[string]handler{
		"GET " + wire.EpisodesPath:                    s.may(receiver.ReadData, s.getEpisodes),
		"GET " + wire.EpisodesPath + "/{host}/{file}": s.may(receiver.ReadData, s.getEpisode),
		"GET " + wire.EpisodesPath + ".tar":           s.may(receiver.ReadData, s.getEpisodesTar),
	}
}

// findEpisodes returns the first page of a request's query.
func (s *Server) findEpisodes(r *http.Request) (c *openCatalogue, q catalogue.Query, p catalogue.Page, err error) {
	if c, err = s.openCatalogue(); err != nil {
		return c, q, p, err
	}
	if q, err = catalogue.ParseQuery(r.URL.Query()); err != nil {
		return c, q, p, wire.NewProblem(wire.Malformed, "query: %s", err)
	}
	p, err = c.Find(q)
	if errors.Is(err, catalogue.ErrCursor) {
		err = wire.NewProblem(wire.Malformed, "query: cursor: %s", err)
	}
	return c, q, p, err
}

// getEpisodesTar streams the tarballs that match a query, in one tar archive.
func (s *Server) getEpisodesTar(w http.ResponseWriter, r *http.Request) error {
	c, q, p, err := s.findEpisodes(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="episodes.tar"`)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out := tar.NewWriter(w)
	for err == nil {
		for _, row := range p.Rows {
			if err = s.revoked(r); err == nil {
				err = s.putTarball(out, row)
			}
			if err != nil {
				break
			}
		}
		if q.Cursor = p.Next; q.Cursor == "" || err != nil {
			break
		}
		p, err = c.Find(q)
	}
	if err = errors.Join(err, r.Context().Err()); err == nil {
		err = out.Close()
	}
	if err != nil {
		s.o.Log.Warn("a download of episodes was cut off", "err", err)
		panic(http.ErrAbortHandler) // half an archive must not look whole
	}
	return nil
}

// putTarball adds an episode's tarball to an archive; one that is not here is left out.
func (s *Server) putTarball(out *tar.Writer, row catalogue.Row) (err error) {
	f, err := s.o.Backend.Episodes.OpenRow(row.Entry())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = out.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: string(row.Host) + "/" + string(row.Episode) + wire.TarballSuffix, Size: row.Size, Mode: 0o644,
		ModTime: row.ReceivedAt,
	})
	if err == nil {
		_, err = io.Copy(out, f)
	}
	return err
}

// getEpisodes answers a query of the catalogue: one page as JSON, or everything as NDJSON.
func (s *Server) getEpisodes(w http.ResponseWriter, r *http.Request) error {
	c, q, p, err := s.findEpisodes(r)
	if err != nil {
		return err
	}
	if r.Header.Get("Accept") != wire.ContentTypeRows {
		return answer(w, http.StatusOK, p)
	}
	w.Header().Set("Content-Type", wire.ContentTypeRows)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	enc := json.NewEncoder(w)
	for {
		for _, row := range p.Rows {
			if enc.Encode(row) != nil {
				return nil // the caller is gone: the access log has the rest
			}
		}
		if q.Cursor = p.Next; q.Cursor == "" || r.Context().Err() != nil {
			return nil
		}
		if p, err = c.Find(q); errors.Join(err, s.revoked(r)) != nil {
			// Half a list must not look whole.
			panic(http.ErrAbortHandler)
		}
	}
}

// getEpisode sends a tarball, or the part of it that is asked for.
func (s *Server) getEpisode(w http.ResponseWriter, r *http.Request) (err error) {
	host, id, err := episodePath(r)
	if err != nil {
		return err
	}
	f, err := s.o.Backend.Episodes.Open(receiver.Key{Host: host, Episode: id})
	if errors.Is(err, fs.ErrNotExist) {
		return wire.NewProblem(wire.NotFound, "the tarball of %s is not stored here", id)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// CatalogueState is the answer about the catalogue.
type CatalogueState struct {
	Episodes int       `json:"episodes"`
	Reached  time.Time `json:"reached,omitzero"` // time of the last row of the index that it has
	Last     time.Time `json:"last,omitzero"`    // of the index's last row
}

// adminCatalogue returns the state of the catalogue, or rebuilds it, for root.
func (s *Server) adminCatalogue(w http.ResponseWriter, r *http.Request) error {
	c, err := s.openCatalogue()
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		c.rebuild()
		return answer(w, http.StatusAccepted, struct{}{})
	}
	var out CatalogueState
	if out.Reached, out.Episodes, err = c.Reached(); err == nil {
		out.Last, _, err = s.o.Backend.Index.Last()
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, out)
}

// AskEpisodes asks the serve at a socket for a page of the catalogue.
func AskEpisodes(ctx context.Context, socket string, q catalogue.Query) (p catalogue.Page, err error) {
	return p, adminAt(socket).Call(ctx, http.MethodGet, wire.EpisodesPath+"?"+q.Values().Encode(), nil, &p)
}

// AskCatalogue asks the serve at a socket about its catalogue.
func AskCatalogue(ctx context.Context, socket string) (state CatalogueState, err error) {
	return state, adminAt(socket).Call(ctx, http.MethodGet, "/v1/catalogue", nil, &state)
}

// AskRebuild makes the serve at a socket rebuild its catalogue.
func AskRebuild(ctx context.Context, socket string) error {
	return adminAt(socket).Call(ctx, http.MethodPost, "/v1/catalogue", nil, nil)
}
