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

// ErrTarball tells that the tarball could not be read here: not the receiver's
// doing, nor the network's.
var ErrTarball = errors.New("read tarball")

// Tarball is what Put sends.
type Tarball struct {
	Episode ident.EpisodeID
	Digest  ident.Digest
	Size    int64        // bytes
	Commit  ident.Commit // that recorded it, from meta.json; empty: not stamped
	// Store is the store that the receipt must name; empty: any.
	Store string
	// Open opens the tarball at its start; it is called at most once, and not
	// at all if the receiver needs no body to answer.
	Open func() (io.ReadCloser, error)
	// Sent, if set, is told how many more bytes went out.
	Sent func(n int)
}

// Put ships an episode. Without an error the receipt is for exactly this
// episode, digest and size of this host; created is false if the receiver had it
// already.
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
		return wire.Receipt{}, false, c.notOurs("the receipt is for %.80q of %.80q, sha256 %.80q, %d bytes, store %.80q", r.Episode, r.Host, r.Digest, r.Size, r.StoreID)
	}
	if t.Store != "" && r.StoreID != t.Store {
		return wire.Receipt{}, false, fmt.Errorf("%w: the receipt names %.80q, not %.80q", ErrOtherStore, r.StoreID, t.Store)
	}
	return r, res.StatusCode == http.StatusCreated, nil
}

// ErrOtherStore tells that a receipt came from another store than the last pong.
// The next ping tells which it is.
var ErrOtherStore = fmt.Errorf("%w: another store", wire.ErrNotOurs)

// upload opens the tarball at the first read and remembers its own failure, so
// that it is not taken for the network's. The transport may still be reading
// when the answer is there, hence the lock.
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
	if err == nil && n > 0 && u.left == 0 { // the transport asks for no more, or too late
		extra, _ := u.r.Read(make([]byte, 1))
		u.left -= int64(extra)
	}
	switch {
	case errors.Is(err, io.EOF) && u.left != 0, u.left < 0:
		u.err = fmt.Errorf("%w: is not of %d bytes", ErrTarball, u.t.Size)
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

// Close is called by the transport, whether or not it read anything.
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
