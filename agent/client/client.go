// Package client is a lab host's HTTP client: ship, health-check, orchestrate and reconcile
// reach the receiver through it. Package wire defines the requests.
//
// A renewed certificate, CA bundle or bearer is used from the next request on, without a
// restart. A request returns the requested value, a *wire.Problem (the receiver rejected
// it), or another error, which says nothing about the request: no network, another server,
// an answer that does not match the request. Only the first two may change the state of an
// episode.
//
// The client writes no files. It follows no redirects, ignores the environment's proxy
// settings, and gives up on a server that stays silent for the idle timeout. The total
// duration of a transfer is not limited. A small answer must begin within one idle timeout
// after the connection is there, and end within another; interim (1xx) answers do not extend
// that.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/httpclient"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// The files of certs_dir that a client reads.
const (
	CAFile     = "ca.crt"       // trust bundle
	PairFile   = "lab-host.pem" // certificate chain and key
	BearerFile = "bearer"
)

// ErrNoCredentials means that this host is not enrolled yet, or that its credentials cannot
// be read. No request was sent.
var ErrNoCredentials = errors.New("credentials not found")

// Client sends requests to the receiver. Its methods are safe for concurrent use.
type Client struct {
	out    Outside
	host   ident.Host
	base   *url.URL
	idle   time.Duration
	keep   time.Duration // how long an idle connection stays open: longer than ping_every with its jitter
	agent  string
	roots  *pki.Bundle
	pair   *pki.Pair // nil: without identity
	bearer string    // path; "": without identity

	mu      sync.Mutex
	current link
}

// link is a transport and the credentials that it was made with.
type link struct {
	roots *x509.CertPool
	pair  *tls.Certificate
	http  *http.Client
}

// Outside holds a client's access to its machine. A nil field means the real machine.
type Outside struct {
	FS   disk.FS
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time // verifies the server's certificate
}

// NewOn is New for a simulated machine in tests.
func NewOn(out Outside, c config.LabHost, v version.Info) (*Client, error) {
	cl, err := New(c, v)
	if err != nil {
		return nil, err
	}
	cl.out = out
	cl.roots = pki.NewBundle(out.FS, filepath.Join(c.CertsDir, CAFile))
	cl.pair = pki.NewPair(out.FS, filepath.Join(c.CertsDir, PairFile))
	return cl, nil
}

// New returns the client of a lab host. The credentials need not exist yet;
// until they do, each request fails with ErrNoCredentials.
func New(c config.LabHost, v version.Info) (*Client, error) {
	cl, err := Anonymous(c, v)
	if err != nil {
		return nil, err
	}
	cl.pair = pki.NewPair(disk.OS{}, filepath.Join(c.CertsDir, PairFile))
	cl.bearer = filepath.Join(c.CertsDir, BearerFile)
	return cl, nil
}

// Anonymous returns a client without credentials, for what anyone may request: the gate and
// releases. The recorder uses it, because its user may read no credentials.
func Anonymous(c config.LabHost, v version.Info) (*Client, error) {
	host, err := ident.ParseHost(c.Host)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(c.Receiver.URL)
	if err != nil {
		return nil, fmt.Errorf("receiver url: %w", err)
	}
	return &Client{
		out: Outside{FS: disk.OS{}}, host: host, base: base, idle: c.Ship.IdleTimeout.D(), keep: 11*c.Ship.PingEvery.D()/10 + time.Minute,
		agent: "cis490/" + v.Version,
		roots: pki.NewBundle(disk.OS{}, filepath.Join(c.CertsDir, CAFile)),
	}, nil
}

// Host returns the host that this client speaks for.
func (c *Client) Host() ident.Host { return c.host }

// Ready returns nil when the credentials can be read, else an ErrNoCredentials that names
// the file. It sends nothing.
func (c *Client) Ready() error {
	if _, err := c.link(); err != nil {
		return err
	}
	_, err := c.readBearer()
	return err
}

// Certificate returns the certificate that the next request will use, so that a caller can
// detect a renewed one.
func (c *Client) Certificate() (*x509.Certificate, error) {
	if c.pair == nil {
		return nil, ErrNoCredentials
	}
	pair, err := c.pair.Get()
	if err != nil {
		return nil, noCredentials(err)
	}
	return pair.Leaf, nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.http != nil {
		c.current.http.CloseIdleConnections()
	}
}

// link returns a transport for the credentials in the files now.
func (c *Client) link() (*http.Client, error) {
	roots, err := c.roots.Get()
	if err != nil {
		return nil, noCredentials(err)
	}
	var pair *tls.Certificate
	if c.pair != nil {
		if pair, err = c.pair.Get(); err != nil {
			return nil, noCredentials(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.current; l.http != nil && l.roots == roots && l.pair == pair {
		return l.http, nil
	}
	if c.current.http != nil {
		// Requests in flight end on the old connection, which then times out.
		c.current.http.CloseIdleConnections()
	}
	c.current = link{roots, pair, httpclient.New(c.newTransport(roots, pair), httpclient.Bounds{})} // do bounds each request
	return c.current.http, nil
}

// newTransport sets no Proxy, so that a shell's environment cannot redirect episodes. It
// speaks HTTP/1.1, because a host uploads one episode at a time and gains nothing from
// HTTP/2.
func (c *Client) newTransport(roots *x509.CertPool, pair *tls.Certificate) *http.Transport {
	name := c.base.Hostname()
	connect := c.out.Dial
	if connect == nil {
		connect = (&net.Dialer{Timeout: c.idle, KeepAlive: 15 * time.Second}).DialContext
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		// The transport dials independently of the request, so the limit is needed here
		// too, for names that never resolve and servers that accept and stay silent.
		ctx, cancel := context.WithTimeout(ctx, c.idle)
		defer cancel()
		raw, err := connect(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		t := pki.ClientTLS(roots, pair)
		t.ServerName, t.NextProtos, t.Time = name, []string{"http/1.1"}, c.out.Now
		conn := tls.Client(raw, t)
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return conn, nil
	}
	return &http.Transport{
		DialTLSContext:        dial,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       c.keep,
		ExpectContinueTimeout: 5 * time.Second,
		WriteBufferSize:       64 << 10,
	}
}

func (c *Client) readBearer() (string, error) {
	if c.bearer == "" {
		return "", nil
	}
	b, err := disk.ReadFile(c.out.FS, c.bearer, disk.Small)
	if err != nil {
		return "", c.noBearer(err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", c.noBearer(fmt.Errorf("%s does not hold a bearer token", c.bearer))
	}
	return s, nil
}

func noCredentials(err error) error {
	return fault.Fix(fmt.Errorf("%w: %w", ErrNoCredentials, err),
		"sudo systemctl start cis490-cert-fetch   # then: journalctl -u cis490-cert-fetch")
}

// noBearer is the error of a host without a usable bearer, which only an enrollment brings.
func (c *Client) noBearer(err error) error {
	err = noCredentials(err)
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fault.Fix(err, wire.FixFor(wire.AnswerOf(wire.BadBearer).Fix, string(c.host)))
}

// ErrSilence means that no byte was sent or received for the idle timeout.
var ErrSilence = errors.New("the receiver is silent")

// notOurs returns an error for an answer that no cis490 receiver sends. The next request
// opens a new connection, because a captive portal could keep the current one alive and
// answer without end.
func (c *Client) notOurs(format string, args ...any) error {
	c.forget()
	return fmt.Errorf("%w: "+format, append([]any{wire.ErrNotOurs}, args...)...)
}

// forget drops all connections; requests in flight keep theirs.
func (c *Client) forget() {
	c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = link{}
}
