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
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/catalogue"
)

// How many rows a page of results has, and how long a search reads for it.
const (
	maxFound   = 100
	searchTime = 700 * time.Millisecond
)

type episodesPage struct {
	Host, Text, From, Until        string
	Profile, Class, Verdict, State string
	Wrong                          []string // errors in the query
	Rows                           []catalogue.Row
	Read                           bool      // whether rows have the content of the catalogue
	Older                          string    // link to older results
	Reached                        time.Time // how far back the search read
	Tar                            string    // link to the tarballs of all results
}

// hexRE matches the beginning of a commit or a digest.
var hexRE = regexp.MustCompile(`^[0-9a-f]{6,}$`)

// question is a search of the index, and how far back it goes.
type question struct {
	receiver.Query
	from time.Time
}

// episodes lists episodes, newest first, one page of results. The catalogue answers; it knows
// ids, commits and digests as a whole only, so the index is searched for parts of them, and
// while there is no catalogue. The link to older results continues there.
func (s *Site) episodes(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	field := func(name string, most int) string { return check.Sanitize(strings.TrimSpace(v.Get(name)), most) }
	p := episodesPage{
		Host: field("host", 63), Text: field("q", 64), From: field("from", 20), Until: field("until", 20),
		Profile: field("profile", 64), Class: field("class", 64), Verdict: field("verdict", 20), State: field("state", 20),
	}
	c, q := s.o.Catalogue(), p.question(v.Get("before"))
	p.Read = c != nil
	if !p.Read && p.Profile+p.Class+p.Verdict+p.State != "" {
		p.Wrong = append(p.Wrong, "the catalogue is not open, so profile, class, verdict and state are not known now: try again soon")
	}
	if len(p.Wrong) == 0 {
		var err error
		if p.Read && p.Text == "" {
			err = p.find(c, q)
		} else {
			err = s.searchIndex(r, &p, c, q)
		}
		if err != nil {
			return err
		}
	}
	return s.render(w, r, http.StatusOK, "episodes", "Episodes", p)
}

// find asks the catalogue.
func (p *episodesPage) find(c *catalogue.Catalogue, q question) error {
	find := catalogue.Query{
		Host: ident.Host(q.Host), Profile: p.Profile, Class: p.Class, Verdict: p.Verdict, State: catalogue.State(p.State),
		From: q.from, To: q.Until, Newest: true, Limit: maxFound, Cursor: q.Cursor,
	}
	found, err := c.Find(find)
	if errors.Is(err, catalogue.ErrCursor) {
		p.notAPage(q.Cursor)
		return nil
	}
	if p.Rows = found.Rows; found.Next != "" {
		p.Older = p.link(found.Next)
	}
	find.Limit, find.Cursor = 0, ""
	p.Tar = "/episodes.tar?" + find.Values().Encode()
	return err
}

// searchIndex searches the index, and looks its rows up in the catalogue.
func (s *Site) searchIndex(r *http.Request, p *episodesPage, c *catalogue.Catalogue, q question) error {
	found, err := s.search(r, q, func(e receiver.Entry) (bool, error) {
		row := catalogue.NewRow(e)
		if c != nil {
			known, ok, err := c.Get(e.Host, e.Episode)
			if err != nil {
				return false, err
			}
			if row.Problem = "not read yet"; ok {
				row = known
			}
		}
		for _, x := range [][2]string{{p.Profile, row.Profile}, {p.Class, row.Class}, {p.Verdict, row.Verdict}, {p.State, string(row.State)}} {
			if x[0] != "" && x[0] != x[1] {
				return false, nil
			}
		}
		p.Rows = append(p.Rows, row)
		return true, nil
	})
	if errors.Is(err, receiver.ErrCursor) {
		p.notAPage(q.Cursor)
		return nil
	}
	if p.Reached = found.reached; found.next != "" {
		p.Older = p.link(found.next)
	}
	return err
}

func (p *episodesPage) notAPage(cursor string) {
	p.Wrong = append(p.Wrong, fmt.Sprintf("%q is not a page of results", check.Sanitize(cursor, 20)))
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
	} else if text := strings.ToLower(p.Text); len(text) <= 64 && hexRE.MatchString(text) {
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
		t, err := plain.ParseTime(x.text)
		if err != nil {
			wrong("%v", err)
		}
		*x.to = t
	}
	return q
}

// searched is how far a search of the index came.
type searched struct {
	next    string    // cursor; "": to its beginning, or that of the question's time
	reached time.Time // how far back it read
}

// search calls take for rows of the index, newest first, until it took maxFound of them, and
// at most for searchTime.
func (s *Site) search(r *http.Request, q question, take func(receiver.Entry) (bool, error)) (done searched, err error) {
	limit, n := time.Now().Add(searchTime), 0
	for found, err := range s.o.Backend.Index.Before(q.Query) {
		if err != nil {
			return done, err
		}
		if r.Context().Err() != nil {
			return done, nil
		}
		if !found.At.IsZero() {
			if done.reached = found.At; found.At.Before(q.from) {
				return done, nil
			}
		}
		if found.Match {
			took, err := take(found.Row)
			if err != nil {
				return done, err
			}
			if took {
				n++
			}
		}
		if found.Cursor != "" && (n >= maxFound || time.Now().After(limit)) {
			done.next = found.Cursor
			return done, nil
		}
	}
	return done, nil
}

func (p *episodesPage) link(before string) string {
	v := url.Values{"before": {before}}
	for k, x := range map[string]string{
		"host": p.Host, "q": p.Text, "from": p.From, "until": p.Until,
		"profile": p.Profile, "class": p.Class, "verdict": p.Verdict, "state": p.State,
	} {
		if x != "" {
			v.Set(k, x)
		}
	}
	return "/episodes?" + v.Encode()
}
