package listen

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// What a request of an unverified client may have.
const (
	answerTimeout = 10 * time.Second // from the end of its header until its answer is taken
	lingerTimeout = time.Second      // for a body that nobody reads, after the answer
	lingerBytes   = 256 << 10        // of it
	lingerRaw     = 4 << 20          // of it, as it comes, where no more is decrypted
	maxRequests   = 100              // on one connection
	turnTimeout   = time.Second      // after which a request that has its turn waits for something else
)

// request is one request and whether its client is verified.
type request struct {
	conn *conn // nil behind a proxy
	rc   *http.ResponseController

	mu          sync.Mutex
	turn        *time.Timer // runs while the request has its turn
	free        bool        // of the bounds for unverified clients
	until       time.Time
	read, write time.Time // the deadlines that the handler wants; zero is none
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	q, _ := ctx.Value(requestKey{}).(*request)
	return q
}

// bounded gives each request of an unverified client its deadlines. They hold
// whatever the handler does: it may ask for earlier ones only.
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
			defer q.give() // also where the handler panics
		}
		out := &response{ResponseWriter: w, q: q, body: r.ContentLength != 0}
		in := r.WithContext(context.WithValue(r.Context(), requestKey{}, q)) // a copy: net/http looks at its own body
		in.Body = waiting{r.Body, q}
		next.ServeHTTP(out, in)
		q.give()
		if !out.sent { // net/http answers
			out.last(http.StatusOK)
		}
		if out.linger && r.Header.Get("Expect") == "" && q.rc.Flush() == nil {
			q.linger(r)
		}
	})
}

// linger waits until a client that still sends has seen its answer: of a connection
// that is closed with bytes unread, TCP takes the answer away.
func (q *request) linger(r *http.Request) {
	_, err := io.CopyN(io.Discard, r.Body, lingerBytes)
	if errors.Is(err, errTooLong) {
		// Nothing is decrypted any more. It ends when the client has seen its answer and
		// closes, or with the deadline.
		_, err = io.CopyN(io.Discard, q.conn.Conn, lingerRaw)
	}
	if err != nil {
		return // the body ended, or the client sent nothing for too long
	}
	t := time.NewTimer(lingerTimeout)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// Verified notes that a request proved to be of a client. Its connection gets a
// place among the verified ones: one client has at most limit of them, and what it
// has beyond that it loses, idle ones first.
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

// Unverified notes that a request proved nothing: what an earlier one on the same
// connection proved counts no more.
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

// IsVerified tells whether the client of a request is verified.
func IsVerified(ctx context.Context) bool {
	q := requestOf(ctx)
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free
}

// Transfer frees a request of the bounds for unverified clients until done is
// called: a long answer that anyone may have. Its connection keeps its place
// meanwhile. The caller bounds how many there are, and how slow.
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

// take waits for the request's turn: unverified clients' requests compute a few at a
// time, so that many of them leave the processors to verified ones.
func (q *request) take() {
	if q.conn == nil {
		return
	}
	q.conn.l.answering.take(q.conn.source)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn = time.AfterFunc(turnTimeout, func() { q.give() })
}

// give ends the request's turn, and reports whether it had one.
func (q *request) give() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end()
}

// end is give with the lock held.
func (q *request) end() bool {
	if q.turn == nil {
		return false
	}
	q.turn.Stop()
	q.turn = nil
	q.conn.l.answering.give()
	return true
}

// wait waits for the client in f, without a turn.
func (q *request) wait(f func()) {
	if had := q.give(); had {
		defer q.take()
	}
	f()
}

// waiting is the body of a request, which waits for the client without a turn.
type waiting struct {
	io.ReadCloser
	q *request
}

// Read reads.
func (b waiting) Read(p []byte) (n int, err error) {
	b.q.wait(func() { n, err = b.ReadCloser.Read(p) })
	return n, err
}

// bind sets the deadlines of an unverified client; the lock is held, or not needed.
func (q *request) bind() {
	q.until = time.Now().Add(answerTimeout)
	_ = q.rc.SetReadDeadline(earlier(q.read, q.until)) // not supported by test recorders only
	_ = q.rc.SetWriteDeadline(earlier(q.write, q.until))
}

// release sets the deadlines that the handler wants.
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

// earlier returns the earlier of a deadline, of which zero is none, and a bound.
func earlier(t, bound time.Time) time.Time {
	if t.IsZero() || t.After(bound) {
		return bound
	}
	return t
}

// response is a ResponseWriter that keeps to a request's bounds.
type response struct {
	http.ResponseWriter
	q    *request
	body bool // the request has one
	sent bool
	// linger: the answer went out before the body came, and the connection is closed.
	linger bool
}

// Unwrap lets http.ResponseController through.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetReadDeadline is what http.ResponseController calls.
func (w *response) SetReadDeadline(t time.Time) error {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.read = t; !w.q.free {
		t = earlier(t, w.q.until)
	}
	return w.q.rc.SetReadDeadline(t)
}

// SetWriteDeadline is what http.ResponseController calls.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.write = t; !w.q.free {
		t = earlier(t, w.q.until)
	}
	return w.q.rc.SetWriteDeadline(t)
}

// WriteHeader sends the head of an answer. An unverified client that is refused, or
// whose request has a body, gets no more on this connection: the answer goes out
// before the body came, and the rest of it is waited for no longer than it takes a
// client to see the answer.
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
		_ = q.rc.SetReadDeadline(time.Now().Add(lingerTimeout)) // not supported by test recorders only
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

// ReadFrom lets net/http send a file by the kernel where it can.
func (w *response) ReadFrom(r io.Reader) (n int64, err error) {
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	w.q.wait(func() { n, err = io.Copy(w.ResponseWriter, r) })
	return n, err
}
