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

// Remote is the source of a lab host: the receiver. It shows no certificate, so
// that a host without one is kept up to date too. Where the receiver's own cannot
// be verified, it is asked all the same: the signature of a release decides, and
// the certificate that would mend the host may come with the release.
type Remote struct {
	URL      string // of the receiver
	Host     ident.Host
	OS, Arch string
	Agent    string // User-Agent
	Roots    func() (*x509.CertPool, error)
	Idle     time.Duration // of silence, after which a transfer is given up
	Log      *slog.Logger

	unverified bool
}

var _ Source = (*Remote)(nil)

// Look asks what this host should run.
func (r *Remote) Look(ctx context.Context, tag string) (wire.Offer, string, error) {
	q := url.Values{"os": {r.OS}, "arch": {r.Arch}, "host": {string(r.Host)}}
	header := http.Header{}
	if tag != "" {
		header.Set("If-None-Match", tag)
	}
	// A small answer: it has to be there as a whole.
	ctx, cancel := context.WithTimeoutCause(ctx, 2*r.Idle, fmt.Errorf("no whole answer within %s", 2*r.Idle))
	defer cancel()
	res, err := r.get(ctx, wire.ReleasesPath+"?"+q.Encode(), header)
	if err != nil {
		return wire.Offer{}, "", err
	}
	defer func() { _ = res.Body.Close() }() // read or given up
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
		return wire.Offer{}, "", fmt.Errorf("%w: the answer is no offer of a release: %d bytes, %.60q", wire.ErrNotOurs, len(b), b)
	}
	return o, res.Header.Get("ETag"), nil
}

// Blob fetches a blob, from an offset on if the receiver does that.
func (r *Remote) Blob(ctx context.Context, d ident.Digest, offset int64) (io.ReadCloser, int64, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	res, err := r.get(ctx, wire.ReleaseBlobPrefix+string(d), header)
	if err != nil {
		return nil, 0, err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return res.Body, 0, nil
	case http.StatusPartialContent:
		from, err := rangeStart(res.Header.Get("Content-Range"))
		if err != nil {
			return nil, 0, errors.Join(err, res.Body.Close())
		}
		return res.Body, from, nil
	}
	p, err := wire.ReadProblem(res)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, 0, err
	}
	return nil, 0, p
}

func rangeStart(header string) (int64, error) {
	s, _, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	from, err := strconv.ParseInt(s, 10, 64)
	if err != nil || from < 0 {
		return 0, fmt.Errorf("%w: range %q", wire.ErrNotOurs, header)
	}
	return from, nil
}

// get asks, first with a verified server. Only its certificate can make it ask
// an unverified one.
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
		r.Log.Warn("the receiver's certificate cannot be verified; releases are asked for all the same, their signature decides", "err", err)
		r.unverified = true
	}
	conf := pki.ClientTLS(nil, nil)
	conf.InsecureSkipVerify = true // nothing secret is sent, and nothing believed without a signature
	return r.send(ctx, conf, path, header)
}

// send makes one request. It follows no redirect and goes through no proxy, and
// gives up after Idle without a byte.
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

// progress is how many bytes put the end of a transfer off. Less is silence: a byte
// before each end would hold the transfer for ever.
const progress = 4 << 10

// watched is a body whose progress puts the end off.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	silent *time.Timer
	idle   time.Duration
	stop   func()
	moved  int // bytes since the end was put off
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if w.moved += n; w.moved >= progress {
		w.moved = 0
		w.silent.Reset(w.idle)
	}
	if cause := context.Cause(w.ctx); err != nil && cause != nil {
		err = cause // also in place of an end, which a peer may send because this side gave up
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.ReadCloser.Close()
	w.stop()
	return err
}
