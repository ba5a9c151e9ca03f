package listen

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// The limits of a request of an unverified client.
const (
	answerTimeout = 10 * time.Second // from the end of the header until the answer is sent
	lingerTimeout = time.Second      // for an unread body, after the answer
	lingerBytes   = 256 << 10        // bytes of the unread body
	lingerRaw     = 4 << 20          // bytes of it that are not decrypted any more
	maxRequests   = 100              // on one connection
	turnTimeout   = time.Second      // after which a request gives up its turn
)

// request is a request and whether its client is verified.
type request struct {
	conn *conn // nil behind a proxy
	rc   *http.ResponseController

	mu          sync.Mutex
	turn        *time.Timer // runs while the request has its turn
	free        bool        // not subject to the limits of unverified clients
	until       time.Time
	read, write time.Time // the handler's deadlines; zero is none
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	q, _ := ctx.Value(requestKey{}).(*request)
	return q
}

// bounded sets the deadlines of each request of an unverified client. The handler can only
// shorten them.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &request{rc: http.NewResponseController(w)}
		if q.conn, _ = r.Context().Value(connKey{}).(*conn); q.conn != nil {
			q.conn.handle()
			defer q.conn.handled()
			q.free = q.conn.client.Load() != nil
		}
		if !q.free {
			q.bind()
			q.take()
			defer q.give() // in case the handler panics
		}
		out := &response{ResponseWriter: w, q: q, body: r.ContentLength != 0}
		in := r.WithContext(context.WithValue(r.Context(), requestKey{}, q)) // a copy, because net/http checks its own body
		in.Body = waiting{r.Body, q}
		next.ServeHTTP(out, in)
		q.give()
		if !out.sent { // net/http sends the header
			out.last(http.StatusOK)
		}
		if out.linger && r.Header.Get("Expect") == "" && q.rc.Flush() == nil {
			q.linger(r)
		}
	})
}

// linger waits until a client that is still sending has read its answer, because closing a
// TCP connection with unread bytes discards the answer.
func (q *request) linger(r *http.Request) {
	_, err := io.CopyN(io.Discard, r.Body, lingerBytes)
	if errors.Is(err, errTooLong) {
		// Stop decrypting. It ends when the client closes, or at the deadline.
		_, err = io.CopyN(io.Discard, q.conn.Conn, lingerRaw)
	}
	if err != nil {
		return // end of the body, or deadline
	}
	t := time.NewTimer(lingerTimeout)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// Verified records that a request was verified as a client's. Its connection moves to the
// verified pool, where one client has at most limit connections; further ones are evicted,
// idle ones first.
func Verified(ctx context.Context, client string, limit int) {
	q := requestOf(ctx)
	if q == nil {
		return
	}
	if c := q.conn; c != nil {
		if was := c.client.Load(); was == nil || *was != client {
			c.client.Store(&client)
			c.l.move(c, &c.l.verified, client, limit)
		}
	}
	q.release()
}

// Unverified records that a request was not verified; an earlier verified request on the
// same connection counts no more.
func Unverified(ctx context.Context) {
	q := requestOf(ctx)
	if q == nil {
		return
	}
	if c := q.conn; c != nil && c.client.Swap(nil) != nil {
		c.l.move(c, &c.l.unverified, c.source, 0)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free {
		q.free = false
		q.bind()
	}
}

// IsVerified reports whether a request's client is verified.
func IsVerified(ctx context.Context) bool {
	q := requestOf(ctx)
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free
}

// Transfer exempts a request from the limits of unverified clients until done is called,
// for a long answer to anyone. Its connection counts in no pool meanwhile. The caller
// bounds the number and duration of transfers.
func Transfer(ctx context.Context) (done func()) {
	q := requestOf(ctx)
	if q == nil || IsVerified(ctx) {
		return func() {}
	}
	if c := q.conn; c != nil {
		c.l.move(c, nil, "", 0)
	}
	q.release()
	return func() {
		if c := q.conn; c != nil {
			c.l.move(c, &c.l.unverified, c.source, 0)
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.free = false
		q.bind()
	}
}

// take waits for the request's turn. Only a few requests of unverified clients compute at a
// time, so that verified ones get CPU time.
func (q *request) take() {
	if q.conn == nil {
		return
	}
	q.conn.l.answering.take(q.conn.source)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn = time.AfterFunc(turnTimeout, func() { q.give() })
}

// give ends the request's turn and reports whether it had one.
func (q *request) give() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end()
}

// end is give for a caller that holds the lock.
func (q *request) end() bool {
	if q.turn == nil {
		return false
	}
	q.turn.Stop()
	q.turn = nil
	q.conn.l.answering.give()
	return true
}

// wait runs f, which waits for the client, without a turn.
func (q *request) wait(f func()) {
	if had := q.give(); had {
		defer q.take()
	}
	f()
}

// waiting is a request's body whose reads wait without a turn.
type waiting struct {
	io.ReadCloser
	q *request
}

// Read implements io.Reader.
func (b waiting) Read(p []byte) (n int, err error) {
	b.q.wait(func() { n, err = b.ReadCloser.Read(p) })
	return n, err
}

// bind sets the deadlines of an unverified client. It requires the lock, or that no other
// goroutine uses the request.
func (q *request) bind() {
	q.until = time.Now().Add(answerTimeout)
	_ = q.rc.SetReadDeadline(earlier(q.read, q.until)) // fails only in test recorders
	_ = q.rc.SetWriteDeadline(earlier(q.write, q.until))
}

// release sets the handler's deadlines.
func (q *request) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free {
		return
	}
	q.free = true
	q.end()
	_ = q.rc.SetReadDeadline(q.read) // as above
	_ = q.rc.SetWriteDeadline(q.write)
}

// earlier returns the earlier of a deadline (zero: none) and a bound.
func earlier(t, bound time.Time) time.Time {
	if t.IsZero() || t.After(bound) {
		return bound
	}
	return t
}

// response is a ResponseWriter that enforces a request's limits.
type response struct {
	http.ResponseWriter
	q    *request
	body bool // the request has one
	sent bool
	// linger: the answer is sent before the body arrived, and the connection is closed.
	linger bool
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetReadDeadline implements http.ResponseController's method.
func (w *response) SetReadDeadline(t time.Time) error {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.read = t; !w.q.free {
		t = earlier(t, w.q.until)
	}
	return w.q.rc.SetReadDeadline(t)
}

// SetWriteDeadline implements http.ResponseController's method.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.write = t; !w.q.free {
		t = earlier(t, w.q.until)
	}
	return w.q.rc.SetWriteDeadline(t)
}

// WriteHeader sends the header. After a rejection, or for a request with a body, it closes
// an unverified client's connection: the answer is sent before the body arrives, and the
// rest of the body is read only until the client has read the answer.
func (w *response) WriteHeader(status int) {
	if status >= http.StatusOK && !w.sent {
		w.sent = true
		w.last(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) last(status int) {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	many := q.conn != nil && q.conn.served.Load() >= maxRequests
	if q.free || status < http.StatusBadRequest && !w.body && !many {
		return
	}
	w.Header().Set("Connection", "close")
	if w.linger = w.body; w.linger {
		_ = q.rc.SetReadDeadline(time.Now().Add(lingerTimeout)) // fails only in test recorders
	}
}

// Write sends a part of the body.
func (w *response) Write(b []byte) (n int, err error) {
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	w.q.wait(func() { n, err = w.ResponseWriter.Write(b) })
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (w *response) ReadFrom(r io.Reader) (n int64, err error) {
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	w.q.wait(func() { n, err = io.Copy(w.ResponseWriter, r) })
	return n, err
}
