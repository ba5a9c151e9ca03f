package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"cis490/internal/wire"
)

// progress is how much must arrive within the idle timeout. Less counts as
// silence: a byte per second would hold a place among the uploads for ever.
const progress = 4 << 10

// body reads a request's body with a deadline that moves on as long as bytes
// arrive: it measures silence, not length.
type body struct {
	r     io.Reader
	rc    *http.ResponseController
	n     *request
	idle  time.Duration
	set   time.Time // when the deadline was set
	since int64     // bytes since
}

func (s *Server) body(w http.ResponseWriter, r *http.Request) *body {
	b := &body{r: r.Body, rc: http.NewResponseController(w), n: requestOf(r), idle: s.o.Config.Limits.IdleTimeout.D()}
	b.extend(time.Now())
	return b
}

func (b *body) extend(now time.Time) {
	_ = b.rc.SetReadDeadline(now.Add(b.idle)) // not supported by test recorders only
	b.set, b.since = now, 0
}

// Read reads; not more often than eight times per idle timeout the deadline is
// moved, as that costs more than the read.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n.bytes += int64(n)
	if b.since += int64(n); b.since >= progress {
		if now := time.Now(); now.Sub(b.set) >= b.idle/8 {
			b.extend(now)
		}
	}
	return n, err
}

// done takes the deadline away after the whole body was read, so that it does not
// end the work that follows. After half a body it must stay: before the answer
// goes out net/http reads on for a while.
func (b *body) done() { _ = b.rc.SetReadDeadline(time.Time{}) }

// bodyProblem tells a sender what was wrong with its body. A body that ended
// early is never judged as malformed: the network may have cut it.
func bodyProblem(err error) error {
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return refuse(wire.NewProblem(wire.TimedOut, "less than %d bytes arrived within the idle timeout", progress), err)
	}
	return refuse(wire.NewProblem(wire.TimedOut, "the body ended before its announced length"), err)
}

// readJSON reads a body of at most limit bytes into v.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	b, err := s.readAll(w, r, limit)
	if err != nil {
		return err
	}
	if err := wire.Decode(b, v); err != nil {
		return refuse(wire.NewProblem(wire.Malformed, "body: %s", err), err)
	}
	return nil
}

func (s *Server) readAll(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge("body of %d bytes is over the limit of %d", r.ContentLength, limit)
	}
	in := s.body(w, r)
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, bodyProblem(fmt.Errorf("read body: %w", err))
	}
	if int64(len(b)) > limit {
		return nil, tooLarge("body is over the limit of %d bytes", limit)
	}
	in.done()
	return b, nil
}

// tooLarge refuses a body whose limit no config can raise.
func tooLarge(detail string, args ...any) *wire.Problem {
	p := wire.NewProblem(wire.TooLarge, detail, args...)
	p.Fix = "nothing: the limit is fixed, and a sender of the receiver's own version keeps to it"
	return p
}
