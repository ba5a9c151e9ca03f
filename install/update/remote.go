package update

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cis490/internal/httpclient"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// Remote is a lab host's Source: the receiver. It uses no client certificate, so that a
// host without one is updated too. If the receiver's certificate cannot be verified, it
// downloads anyway: the release's signature protects it, and the release may contain the CA
// certificate that the host lacks.
type Remote struct {
	URL      string // the receiver's
	Host     ident.Host
	OS, Arch string
	Agent    string // User-Agent
	Roots    func() (*x509.CertPool, error)
	Idle     time.Duration // idle timeout of a transfer
	Log      *slog.Logger

	unverified bool
}

var _ Source = (*Remote)(nil)

// Look requests the offer for this host.
func (r *Remote) Look(ctx context.Context, tag string) (wire.Offer, string, error) {
	q := url.Values{"os": {r.OS}, "arch": {r.Arch}, "host": {string(r.Host)}}
	header := http.Header{}
	if tag != "" {
		header.Set("If-None-Match", tag)
	}
	// The answer is small, so limit its total time.
	ctx, cancel := context.WithTimeoutCause(ctx, 2*r.Idle, fmt.Errorf("no whole answer within %s", 2*r.Idle))
	defer cancel()
	res, err := r.get(ctx, wire.ReleasesPath+"?"+q.Encode(), header)
	if err != nil {
		return wire.Offer{}, "", err
	}
	defer func() { _ = res.Body.Close() }() // read or abandoned
	switch res.StatusCode {
	case http.StatusNotModified:
		return wire.Offer{}, tag, ErrUnchanged
	case http.StatusOK:
	default:
		p, err := wire.ReadProblem(res)
		switch {
		case err != nil:
			return wire.Offer{}, "", err
		case p.Kind == wire.NotFound:
			return wire.Offer{}, "", ErrNothing
		}
		return wire.Offer{}, "", p
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, wire.MaxAnswer+1))
	if err != nil {
		return wire.Offer{}, "", fmt.Errorf("read offer: %w", err)
	}
	var o wire.Offer
	if err := wire.Decode(b, &o); err != nil || len(b) > wire.MaxAnswer || o.Manifest == "" {
		return wire.Offer{}, "", fmt.Errorf("%w: the answer is not a release offer: %d bytes, %.60q", wire.ErrNotOurs, len(b), b)
	}
	return o, res.Header.Get("ETag"), nil
}

// Blob fetches a blob from an offset on, if the receiver supports that.
func (r *Remote) Blob(ctx context.Context, d ident.Digest, offset int64, packed bool) (Content, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	if packed {
		header.Set("Accept-Encoding", zstdEncoding)
	}
	res, err := r.get(ctx, wire.ReleaseBlobPrefix+string(d), header)
	if err != nil {
		return Content{}, err
	}
	c := Content{ReadCloser: res.Body, Packed: packed && res.Header.Get("Content-Encoding") == zstdEncoding}
	switch res.StatusCode {
	case http.StatusOK:
		return c, nil
	case http.StatusPartialContent:
		if c.From, err = rangeStart(res.Header.Get("Content-Range")); err != nil {
			return Content{}, errors.Join(err, res.Body.Close())
		}
		return c, nil
	case http.StatusRequestedRangeNotSatisfiable: // all of it was fetched before
		return Content{ReadCloser: http.NoBody, From: offset, Packed: packed}, res.Body.Close()
	}
	p, err := wire.ReadProblem(res)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return Content{}, err
	}
	return Content{}, p
}

// zstdEncoding is a content coding (RFC 8878).
const zstdEncoding = "zstd"

func rangeStart(header string) (int64, error) {
	s, _, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	from, err := strconv.ParseInt(s, 10, 64)
	if err != nil || from < 0 {
		return 0, fmt.Errorf("%w: range %q", wire.ErrNotOurs, header)
	}
	return from, nil
}

// get sends a request to a verified server. Only a certificate that cannot be verified
// makes it fall back to an unverified one.
func (r *Remote) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	roots, err := r.Roots()
	if err == nil && !r.unverified {
		var res *http.Response
		res, err = r.send(ctx, pki.ClientTLS(roots, nil), path, header)
		if _, bad := errors.AsType[*tls.CertificateVerificationError](err); !bad {
			return res, err
		}
	}
	if !r.unverified {
		r.Log.Warn("cannot verify the receiver's certificate; downloading releases anyway, their signature protects them", "err", err)
		r.unverified = true
	}
	conf := pki.ClientTLS(nil, nil)
	conf.InsecureSkipVerify = true // nothing secret is sent, and content needs a signature
	return r.send(ctx, conf, path, header)
}

// send makes one request. It follows no redirects, uses no proxy, and gives up after Idle
// without a byte.
func (r *Remote) send(ctx context.Context, conf *tls.Config, path string, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(r.Idle, func() { cancel(fmt.Errorf("no byte for %s", r.Idle)) })
	stop := func() { silent.Stop(); cancel(nil) }
	tr := &http.Transport{
		TLSClientConfig: conf, DisableKeepAlives: true,
		DialContext: (&net.Dialer{Timeout: r.Idle}).DialContext,
	}
	cl := httpclient.New(tr, httpclient.Bounds{}) // Look and watched bound it
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.URL, "/")+path, nil)
	if err != nil {
		stop()
		return nil, err
	}
	req.Header = header
	req.Header.Set("User-Agent", r.Agent)
	res, err := cl.Do(req)
	if err != nil {
		cause := context.Cause(ctx)
		stop()
		if redirect, ok := errors.AsType[*httpclient.Redirect](err); ok {
			return nil, fmt.Errorf("%w: %w", wire.ErrNotOurs, redirect)
		}
		if cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return nil, err
	}
	res.Body = &watched{ReadCloser: res.Body, ctx: ctx, silent: silent, idle: r.Idle, stop: stop}
	return res, nil
}

// progress is how many bytes restart the idle timer. One byte at a time would keep the
// transfer open without end.
const progress = 4 << 10

// watched is a body whose progress restarts the idle timer.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	silent *time.Timer
	idle   time.Duration
	stop   func()
	moved  int // bytes since the timer was restarted
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if w.moved += n; w.moved >= progress {
		w.moved = 0
		w.silent.Reset(w.idle)
	}
	if cause := context.Cause(w.ctx); err != nil && cause != nil {
		err = cause // even at EOF, because the server may end the body after this side gave up
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.ReadCloser.Close()
	w.stop()
	return err
}
