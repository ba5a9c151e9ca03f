package export

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cis490/internal/fault"
	"cis490/internal/httpclient"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/catalogue"
)

// Find answers a query of a catalogue with a page.
type Find func(context.Context, catalogue.Query) (catalogue.Page, error)

// rows yields the rows of all pages. A list that does not advance is an error: that of
// another receiver might never end.
func (find Find) rows(ctx context.Context, q catalogue.Query) iter.Seq2[catalogue.Row, error] {
	return func(yield func(catalogue.Row, error) bool) {
		var last catalogue.Row
		for {
			p, err := find(ctx, q)
			if err == nil && len(p.Rows) == 0 && p.Next != "" && p.Next == q.Cursor {
				err = errors.New("the receiver's list of episodes does not advance")
			}
			if err != nil {
				yield(catalogue.Row{}, err)
				return
			}
			for _, r := range p.Rows {
				if cmp.Or(cmp.Compare(r.Episode, last.Episode), cmp.Compare(r.Host, last.Host)) <= 0 {
					yield(r, fmt.Errorf("the receiver's list of episodes is not in order, or repeats: %s/%s follows %s/%s",
						r.Host, r.Episode, last.Host, last.Episode))
					return
				}
				if last = r; !yield(r, nil) {
					return
				}
			}
			if q.Cursor = p.Next; q.Cursor == "" {
				return
			}
		}
	}
}

// Local is the source on the receiver itself.
type Local struct {
	Find     Find
	Episodes receiver.Episodes
}

// Rows implements Source.
func (l Local) Rows(ctx context.Context, q catalogue.Query) iter.Seq2[catalogue.Row, error] {
	return l.Find.rows(ctx, q)
}

// Open implements Source.
func (l Local) Open(_ context.Context, r catalogue.Row) (io.ReadCloser, error) {
	f, err := l.Episodes.OpenRow(r.Entry())
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrGone
	}
	return f, err
}

// Bounds of a remote receiver's answers.
const (
	listFor     = time.Minute
	maxList     = 16 << 20
	downloadFor = 30 * time.Minute
)

// Remote is a receiver that is asked over HTTPS.
type Remote struct {
	URL   string // without a slash at its end
	Token string // the operator's, or one for data
	list  *http.Client
	load  *http.Client
}

// NewRemote returns the source at a URL.
func NewRemote(at, token string, t *http.Transport) (*Remote, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("want an https URL such as https://collector.lab:8443, got %.100q", at)
	}
	return &Remote{
		strings.TrimSuffix(at, "/"), token,
		httpclient.New(t, httpclient.Bounds{Total: listFor, Answer: maxList}), httpclient.New(t, httpclient.Bounds{Total: downloadFor}),
	}, nil
}

// Rows implements Source.
func (r *Remote) Rows(ctx context.Context, q catalogue.Query) iter.Seq2[catalogue.Row, error] {
	return Find(func(ctx context.Context, q catalogue.Query) (p catalogue.Page, err error) {
		res, err := r.get(ctx, r.list, wire.EpisodesPath+"?"+q.Values().Encode())
		if err != nil {
			return p, err
		}
		err = json.NewDecoder(res.Body).Decode(&p)
		return p, errors.Join(err, res.Body.Close())
	}).rows(ctx, q)
}

// Open implements Source.
func (r *Remote) Open(ctx context.Context, row catalogue.Row) (io.ReadCloser, error) {
	res, err := r.get(ctx, r.load, wire.EpisodePath(row.Host, row.Episode))
	if p, ok := errors.AsType[*wire.Problem](err); ok && p.Kind == wire.NotFound {
		err = ErrGone
	}
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (r *Remote) get(ctx context.Context, c *http.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+r.Token)
	res, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", r.URL, err)
	}
	if res.StatusCode != http.StatusOK {
		p, err := wire.ReadProblem(res)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return nil, fmt.Errorf("ask %s: %w", r.URL, err)
		}
		return nil, fault.Fix(fmt.Errorf("ask %s: %w", r.URL, p), p.Fix)
	}
	return res, nil
}
