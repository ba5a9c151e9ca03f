package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/receiver"
)

// How many rows a page of results has, and how long a search reads for it.
const (
	maxFound   = 100
	searchTime = 700 * time.Millisecond
)

type episodesPage struct {
	Host, Text, From, Until string
	Wrong                   []string // errors in the query
	Rows                    []receiver.Entry
	Older                   string    // link to older results
	Reached                 time.Time // how far back the search read
}

// hexRE matches the beginning of a commit or a digest.
var hexRE = regexp.MustCompile(`^[0-9a-f]{6,64}$`)

// question is a search of the index, and how far back it goes.
type question struct {
	receiver.Query
	from time.Time
}

// episodes searches the index, newest first, for one page of results and at most for
// searchTime. The link to older results continues there.
func (s *Site) episodes(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	p := episodesPage{
		Host:  check.Sanitize(v.Get("host"), 63),
		Text:  check.Sanitize(strings.TrimSpace(v.Get("q")), 64),
		From:  check.Sanitize(v.Get("from"), 20),
		Until: check.Sanitize(v.Get("until"), 20),
	}
	q := p.question(v.Get("before"))
	if len(p.Wrong) == 0 {
		if err := s.search(r, &p, q); err != nil {
			return err
		}
	}
	return s.render(w, r, http.StatusOK, "episodes", "Episodes", p)
}

func (p *episodesPage) question(before string) question {
	q := question{Query: receiver.Query{Cursor: before}}
	wrong := func(format string, args ...any) { p.Wrong = append(p.Wrong, fmt.Sprintf(format, args...)) }
	if p.Host != "" {
		h, err := ident.ParseHost(p.Host)
		if err != nil {
			wrong("%s", err)
		}
		q.Host = string(h)
	}
	if id, err := ident.ParseEpisodeID(strings.ToUpper(p.Text)); err == nil {
		q.Episode = id
		// The id has the time by the host's clock, which may be a day ahead.
		q.from = id.Time().Add(-24 * time.Hour)
	} else if text := strings.ToLower(p.Text); hexRE.MatchString(text) {
		q.Prefix = text
	} else if text != "" {
		wrong("%q is not an episode id, nor at least 6 digits of a commit or digest", p.Text)
	}
	for _, x := range []struct {
		text string
		to   *time.Time
	}{{p.From, &q.from}, {p.Until, &q.Until}} {
		if x.text == "" {
			continue
		}
		t, err := parseTime(x.text)
		if err != nil {
			wrong("time %q: want 2026-01-31 or 2026-01-31T08:00, in UTC", x.text)
		}
		*x.to = t
	}
	return q
}

func parseTime(s string) (t time.Time, err error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err = time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return t, err
}

func (s *Site) search(r *http.Request, p *episodesPage, q question) error {
	limit := time.Now().Add(searchTime)
	for found, err := range s.o.Backend.Index.Before(q.Query) {
		if errors.Is(err, receiver.ErrCursor) {
			p.Wrong = append(p.Wrong, fmt.Sprintf("%q is not a page of results", check.Sanitize(q.Cursor, 20)))
			return nil
		}
		if err != nil {
			return err
		}
		if r.Context().Err() != nil {
			return nil
		}
		if !found.At.IsZero() {
			if p.Reached = found.At; found.At.Before(q.from) {
				return nil
			}
		}
		if found.Match {
			p.Rows = append(p.Rows, found.Row)
		}
		if found.Cursor != "" && (len(p.Rows) >= maxFound || time.Now().After(limit)) {
			p.Older = p.link(found.Cursor)
			return nil
		}
	}
	return nil
}

func (p *episodesPage) link(before string) string {
	v := url.Values{"before": {before}}
	for k, x := range map[string]string{"host": p.Host, "q": p.Text, "from": p.From, "until": p.Until} {
		if x != "" {
			v.Set(k, x)
		}
	}
	return "/episodes?" + v.Encode()
}
