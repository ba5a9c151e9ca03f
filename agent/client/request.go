package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cis490/internal/httpclient"
	"cis490/internal/wire"
)

// silence cancels a request after a while without progress. Each byte of an upload or of a
// long answer restarts the timer.
type silence struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	limit time.Duration
	timer *time.Timer
	// working is how long after the last byte interim answers may restart the timer.
	working time.Duration
	last    atomic.Int64 // when the last byte moved, in nanoseconds since start
	start   time.Time
}

// maxInterim bounds the interim answers to one request; the receiver sends a few a minute.
const maxInterim = 10_000

func watch(ctx context.Context, limit, working time.Duration) *silence {
	//off:18_NetworkGone
	s := &silence{limit: limit, working: working, start: time.Now()}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.timer = time.AfterFunc(limit, func() { s.end(fmt.Errorf("%w: no byte for %s", ErrSilence, limit)) })
	interim := 0
	s.ctx = httptrace.WithClientTrace(s.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { s.touch() },
		// A 102 means that the receiver is working.
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if interim++; interim > maxInterim {
				return fmt.Errorf("%w: more than %d interim answers", wire.ErrNotOurs, maxInterim)
			}
			if time.Since(s.start)-time.Duration(s.last.Load()) < s.working {
				s.timer.Reset(s.limit)
			}
			return nil
		},
	})
	return s
}

func (s *silence) touch() {
	s.last.Store(int64(time.Since(s.start)))
	s.timer.Reset(s.limit)
}

func (s *silence) stop() {
	s.timer.Stop()
	s.end(nil)
}

// explain replaces the error of a cancelled request by its cause.
func (s *silence) explain(err error) error {
	if cause := context.Cause(s.ctx); err != nil && errors.Is(cause, ErrSilence) {
		return cause
	}
	return err
}

// answer is a response whose body is subject to the timer; Close stops it.
type answer struct {
	io.ReadCloser
	s *silence
	// long: a download may take any time while bytes arrive. Other answers are small, and
	// one that trickles is treated like silence.
	long bool
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 && a.long {
		a.s.touch()
	}
	// At EOF too, because a server may end the body after this side gave up.
	return n, a.s.explain(err)
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.s.stop()
	return err
}

// workingFor is how long a receiver may process an upload after its last byte while it
// sends only interim answers: half an hour, plus a second for each MiB. Any other answer
// must come within the idle timeout.
func workingFor(size int64) time.Duration {
	return 30*time.Minute + time.Duration(size>>20)*time.Second
}

// do sends a request and returns the response if its status is wanted, else a *wire.Problem
// or another error. The caller closes the body.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, prepare func(*http.Request),
	want ...int,
) (_ *http.Response, err error) {
	h, err := c.link()
	if err != nil {
		return nil, err
	}
	bearer, err := c.readBearer()
	if err != nil {
		return nil, err
	}
	up, long := body.(*upload)
	var working time.Duration
	if long {
		working = workingFor(up.t.Size)
	}
	s := watch(ctx, c.idle, working)
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	path, query, _ := strings.Cut(path, "?")
	u := c.base.JoinPath(path)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(s.ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", c.agent)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if prepare != nil {
		prepare(req)
	}
	if long {
		up.touch = s.touch
	}
	res, err := h.Do(req)
	if err != nil {
		// Retry on a new connection; this one may be dead.
		h.CloseIdleConnections()
		if redirect, ok := errors.AsType[*httpclient.Redirect](err); ok {
			return nil, c.notOurs("%s %s: %w", method, path, redirect)
		}
		return nil, s.explain(err)
	}
	s.touch()
	res.Body = &answer{ReadCloser: res.Body, s: s}
	if slices.Contains(want, res.StatusCode) {
		return res, nil
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode < 400 {
		return nil, c.notOurs("status %d to %s %s", res.StatusCode, method, path)
	}
	p, err := wire.ReadProblem(res)
	if err != nil {
		c.forget()
		return nil, err
	}
	p.Fix = wire.FixFor(p.Fix, string(c.host))
	if p.Kind == wire.NotReady && res.Close {
		c.forget() // idle connections too: behind a balancer, a new one leads to a receiver that is ready
	}
	return nil, p
}

// ask sends JSON, if any, and decodes a JSON answer of at most wire.MaxAnswer bytes.
func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	res, err := c.do(ctx, method, path, body, func(r *http.Request) {
		if in != nil {
			r.Header.Set("Content-Type", wire.ContentTypeJSON)
		}
	}, http.StatusOK)
	if err != nil {
		return err
	}
	return errors.Join(c.decode(res, out), res.Body.Close())
}

// decode decodes a JSON answer.
func (c *Client) decode(res *http.Response, out any) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, wire.MaxAnswer+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if len(b) > wire.MaxAnswer {
		return c.notOurs("answer is over %d bytes", wire.MaxAnswer)
	}
	if err := wire.Decode(b, out); err != nil {
		return c.notOurs("answer to %s: %w", res.Request.URL.Path, err)
	}
	return nil
}
