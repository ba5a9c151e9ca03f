package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// ErrTarball means that the tarball could not be read on this host. Neither the receiver
// nor the network is at fault.
var ErrTarball = errors.New("read tarball")

// Tarball is what Put sends.
type Tarball struct {
	Episode ident.EpisodeID
	Digest  ident.Digest
	Size    int64        // bytes
	Commit  ident.Commit // the recorder's, from meta.json; may be empty
	// Store is the store id that the receipt must name; empty accepts any.
	Store string
	// Open opens the tarball. Put calls it at most once, and not at all if the receiver
	// answers before the body.
	Open func() (io.ReadCloser, error)
	// Sent, if set, is called with the number of further bytes sent.
	Sent func(n int)
}

// Put uploads an episode. The receipt matches this host, episode, digest and size; created
// is false if the receiver had the episode already.
func (c *Client) Put(ctx context.Context, t Tarball) (r wire.Receipt, created bool, err error) {
	up := &upload{t: t}
	res, err := c.do(ctx, http.MethodPut, wire.EpisodePath(c.host, t.Episode), up, func(r *http.Request) {
		r.ContentLength = t.Size
		r.Header.Set("Content-Type", wire.ContentTypeEpisode)
		r.Header.Set("Expect", "100-continue")
		r.Header.Set(wire.HeaderDigest, string(t.Digest))
		r.Header.Set(wire.HeaderSchema, wire.SchemaVersion)
		r.Header.Set(wire.HeaderHost, string(c.host))
		r.Header.Set(wire.HeaderEpisode, string(t.Episode))
		if t.Commit != "" {
			r.Header.Set(wire.HeaderCommit, string(t.Commit))
		}
	}, http.StatusOK, http.StatusCreated)
	if err != nil {
		if local := up.failed(); local != nil {
			return r, false, local
		}
		return r, false, err
	}
	if err := errors.Join(c.decode(res, &r), res.Body.Close()); err != nil {
		return wire.Receipt{}, false, err
	}
	want := wire.Receipt{Host: c.host, Episode: t.Episode, Digest: t.Digest, Size: t.Size, StoredAt: r.StoredAt, StoreID: r.StoreID}
	if r != want || r.StoreID == "" || r.StoredAt.IsZero() {
		return wire.Receipt{}, false, c.notOurs("the receipt is for %.80q of %.80q, sha256 %.80q, %d bytes, store %.80q",
			r.Episode, r.Host, r.Digest, r.Size, r.StoreID)
	}
	if t.Store != "" && r.StoreID != t.Store {
		return wire.Receipt{}, false, fmt.Errorf("%w: the receipt names %.80q, not %.80q", ErrOtherStore, r.StoreID, t.Store)
	}
	return r, res.StatusCode == http.StatusCreated, nil
}

// ErrOtherStore means that a receipt came from another store than the last pong. The next
// ping returns the current one.
var ErrOtherStore = fmt.Errorf("%w: another store", wire.ErrNotOurs)

// upload opens the tarball at the first read and records a read failure, so that it is not
// mistaken for a network fault. It needs the lock because the transport may still read
// after the answer arrived.
type upload struct {
	t     Tarball
	touch func()

	mu     sync.Mutex
	r      io.ReadCloser
	left   int64
	closed bool
	err    error
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return 0, u.err
	}
	if u.closed {
		return 0, fs.ErrClosed
	}
	if u.r == nil {
		if u.r, u.err = u.t.Open(); u.err != nil {
			u.r, u.err = nil, fmt.Errorf("%w: %w", ErrTarball, u.err)
			return 0, u.err
		}
		u.left = u.t.Size
	}
	n, err := u.r.Read(p)
	u.left -= int64(n)
	if err == nil && n > 0 && u.left == 0 { // check here: the transport stops reading at Size
		extra, _ := u.r.Read(make([]byte, 1))
		u.left -= int64(extra)
	}
	switch {
	case errors.Is(err, io.EOF) && u.left != 0, u.left < 0:
		u.err = fmt.Errorf("%w: size is not %d bytes", ErrTarball, u.t.Size)
		return 0, u.err
	case err != nil && !errors.Is(err, io.EOF):
		u.err = fmt.Errorf("%w: %w", ErrTarball, err)
		return n, u.err
	}
	if n > 0 {
		u.touch()
		if u.t.Sent != nil {
			u.t.Sent(n)
		}
	}
	return n, err
}

// Close is called by the transport, even if it read nothing.
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.r == nil {
		return nil
	}
	r := u.r
	u.r = nil
	return r.Close()
}

func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}
