package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/receiver/index"
)

// How many rows a search shows, and how long it looks before it says how far it
// is.
const (
	maxFound   = 100
	searchTime = 700 * time.Millisecond
)

type episodesPage struct {
	Host, Text, From, Until string
	Wrong                   []string // what of the question was not understood
	Rows                    []index.Row
	Older                   string    // where the search goes on
	Reached                 time.Time // how far back it is
}

// hexRE is the beginning of a commit or a digest.
var hexRE = regexp.MustCompile(`^[0-9a-f]{6,64}$`)

// question is a search of the index.
type question struct {
	needles     [][]byte
	hex         string // what commit or digest begins with
	from, until time.Time
	before      int64
}

// episodes searches the index from its end. It reads what it needs for one page,
// and at most for a moment; the next page goes on from there.
func (s *Site) episodes(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	p := episodesPage{Host: check.Plain(v.Get("host"), 63), Text: check.Plain(strings.TrimSpace(v.Get("q")), 64), From: check.Plain(v.Get("from"), 20), Until: check.Plain(v.Get("until"), 20)}
	q := p.question(v.Get("before"))
	if len(p.Wrong) == 0 {
		if err := s.search(r, &p, q); err != nil {
			return err
		}
	}
	return s.render(w, r, http.StatusOK, "episodes", "Episodes", p)
}

func (p *episodesPage) question(before string) question {
	q := question{before: -1}
	wrong := func(format string, args ...any) { p.Wrong = append(p.Wrong, fmt.Sprintf(format, args...)) }
	if p.Host != "" {
		h, err := ident.ParseHost(p.Host)
		if err != nil {
			wrong("%s", err)
		}
		q.needles = append(q.needles, fmt.Appendf(nil, `"host":%q`, h))
	}
	if id, err := ident.ParseEpisodeID(strings.ToUpper(p.Text)); err == nil {
		q.needles = append(q.needles, fmt.Appendf(nil, `"episode":%q`, id))
		// It was received after it began, by the host's clock: a day is left for
		// one that is wrong.
		q.from = id.Time().Add(-24 * time.Hour)
	} else if text := strings.ToLower(p.Text); hexRE.MatchString(text) {
		q.hex, q.needles = text, append(q.needles, fmt.Appendf(nil, `:"%s`, text))
	} else if text != "" {
		wrong("%q is neither an episode, nor at least 6 digits of a commit or digest", p.Text)
	}
	for _, x := range []struct {
		text string
		to   *time.Time
	}{{p.From, &q.from}, {p.Until, &q.until}} {
		if x.text == "" {
			continue
		}
		t, err := parseTime(x.text)
		if err != nil {
			wrong("time %q: want 2026-01-31 or 2026-01-31T08:00, in UTC", x.text)
		}
		*x.to = t
	}
	if before != "" {
		n, err := strconv.ParseInt(before, 10, 64)
		if err != nil || n < 0 {
			wrong("the page to go on from is %q", check.Plain(before, 20))
		}
		q.before = n
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
	path := filepath.Join(s.o.DataDir, index.File)
	if q.before < 0 && !q.until.IsZero() {
		at, err := ledger.Start(s.o.FS, path, index.TimeKey, q.until.Add(time.Minute))
		if err != nil {
			return err
		}
		// Start may be a little early: rows after it are few.
		q.before = at + 64<<10
	}
	limit := time.Now().Add(searchTime)
	for place, err := range ledger.Backward(s.o.FS, path, index.TimeKey, q.before, q.needles...) {
		if err != nil {
			return err
		}
		if r.Context().Err() != nil {
			return nil
		}
		if time.Now().After(limit) && place.Offset > 0 {
			p.Older = p.link(place.Offset)
			return nil
		}
		if place.Line == nil {
			continue
		}
		p.Reached = place.At
		if place.At.Before(q.from) {
			return nil
		}
		var row index.Row
		if !q.until.IsZero() && place.At.After(q.until) || json.Unmarshal(place.Line, &row) != nil {
			continue
		}
		if !strings.HasPrefix(string(row.Digest), q.hex) && !strings.HasPrefix(string(row.Commit), q.hex) {
			continue // it is the beginning of something else
		}
		if p.Rows = append(p.Rows, row); len(p.Rows) >= maxFound && place.Offset > 0 {
			p.Older = p.link(place.Offset)
			return nil
		}
	}
	return nil
}

func (p *episodesPage) link(before int64) string {
	v := url.Values{"before": {strconv.FormatInt(before, 10)}}
	for k, x := range map[string]string{"host": p.Host, "q": p.Text, "from": p.From, "until": p.Until} {
		if x != "" {
			v.Set(k, x)
		}
	}
	return "/episodes?" + v.Encode()
}
