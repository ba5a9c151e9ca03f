package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/plot"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/catalogue"
)

// plotSuffix names the plot of an episode, beside its tarball.
const plotSuffix = ".svg"

// maxDrawn is how many tarballs are read at once for pages and plots. Each may need tens
// of MiB.
const maxDrawn = 2

// maxShown bounds the phases and notes that a page lists.
const maxShown = 60

// episodePage is an episode: its row in the index and the content of its tarball.
type episodePage struct {
	Host   ident.Host
	ID     ident.EpisodeID
	Row    *receiver.Entry // nil: not found within searchTime
	Meta   *episode.Meta
	Phases []episode.Phase
	Unread string // why the page does not show its tarball
	Plot   bool
}

// file sends the page, the tarball or the plot of an episode.
func (s *Site) file(w http.ResponseWriter, r *http.Request) error {
	host, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "%s", err)
	}
	name := r.PathValue("file")
	h := s.episode
	if rest, ok := strings.CutSuffix(name, wire.TarballSuffix); ok {
		name, h = rest, s.download
	} else if rest, ok := strings.CutSuffix(name, plotSuffix); ok {
		name, h = rest, s.plot
	}
	id, err := ident.ParseEpisodeID(name)
	if err != nil {
		return wire.NewProblem(wire.Malformed, "%.80q is not an episode", r.PathValue("file"))
	}
	return h(w, r, host, id)
}

func (s *Site) episode(w http.ResponseWriter, r *http.Request, host ident.Host, id ident.EpisodeID) error {
	p := episodePage{Host: host, ID: id}
	find := episodesPage{Host: string(host), Text: string(id)}
	_, err := s.search(r, find.question(""), func(e receiver.Entry) (bool, error) {
		if e.Host == host && p.Row == nil { // newest first: the last row says whether it was archived
			p.Row = &e
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if c := s.o.Catalogue(); c != nil {
		row, found, err := c.Get(host, id)
		if err != nil {
			return err
		}
		if found && row.State == catalogue.Refused {
			p.Unread = "This episode is refused, and not exported: " + row.Problem
			return s.render(w, r, http.StatusOK, "episode", "Episode "+string(id), p)
		}
	}
	o, err := s.overview(r.Context(), host, id)
	var known *wire.Problem
	switch {
	case errors.As(err, &known) && known.Kind == wire.NotFound && p.Row == nil:
		return err
	case errors.As(err, &known):
		p.Unread = known.Detail
	case err != nil:
		p.Unread = check.Sanitize(err.Error(), 300)
	default:
		p.Meta, p.Phases, p.Plot = &o.Meta, o.Phases[:min(len(o.Phases), maxShown)], len(o.Curves) > 0
	}
	return s.render(w, r, http.StatusOK, "episode", "Episode "+string(id), p)
}

// plot draws an episode, for a dark page or a phone if the query has "dark" or "narrow".
// Its content security policy also holds when the picture is opened by itself.
func (s *Site) plot(w http.ResponseWriter, r *http.Request, host ident.Host, id ident.EpisodeID) error {
	o, err := s.overview(r.Context(), host, id)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	svg, err := plot.SVG(o, plot.Style{Dark: q.Has("dark"), Narrow: q.Has("narrow")})
	if err != nil {
		return wire.NewProblem(wire.NotFound, "episode %s has no plot: %s", id, check.Sanitize(err.Error(), 200))
	}
	svg = plain.Escape(svg)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(svg)))
	_, _ = w.Write(svg) // the caller is gone: the access log has the rest
	return nil
}

// overview reads an episode from its tarball. Its content comes from the host.
func (s *Site) overview(ctx context.Context, host ident.Host, id ident.EpisodeID) (o episode.Overview, err error) {
	select {
	case s.drawn <- struct{}{}:
		defer func() { <-s.drawn }()
	case <-ctx.Done():
		return o, wire.NewProblem(wire.Busy, "the receiver is reading other episodes: try again")
	}
	f, err := s.openTarball(host, id)
	if err != nil {
		return o, err
	}
	defer func() { _ = f.Close() }() // only read
	return episode.ReadOverviewOf(f, id)
}

// openTarball opens the stored tarball of an episode.
func (s *Site) openTarball(host ident.Host, id ident.EpisodeID) (receiver.Tarball, error) {
	f, err := s.o.Backend.Episodes.Open(receiver.Key{Host: host, Episode: id})
	if errors.Is(err, fs.ErrNotExist) {
		err = wire.NewProblem(wire.NotFound, "the tarball of %s is not on this receiver; its index entry says whether it was archived", id)
	}
	return f, err
}

// download sends a tarball, or a range of it.
func (s *Site) download(w http.ResponseWriter, r *http.Request, host ident.Host, id ident.EpisodeID) error {
	f, err := s.openTarball(host, id)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	s.o.Log.Info("episode downloaded", "host", host, "episode", id, "from", s.o.From(r))
	w.Header().Set("Content-Type", wire.ContentTypeEpisode)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", string(host)+"-"+string(id)+wire.TarballSuffix))
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}
