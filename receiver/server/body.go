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

// progress is how many bytes must arrive within the idle timeout. Otherwise a client that
// sends one byte per second could occupy an upload place for ever.
const progress = 4 << 10

// body reads a request's body with a deadline that moves as long as bytes arrive: it
// bounds silence, not the size of the body.
type body struct {
	r     io.Reader
	rc    *http.ResponseController
	n     *request
	idle  time.Duration
	set   time.Time // when the deadline was set
	since int64     // bytes since then
}

func (s *Server) body(w http.ResponseWriter, r *http.Request) *body {
	b := &body{r: r.Body, rc: http.NewResponseController(w), n: requestOf(r), idle: s.o.Config.Limits.IdleTimeout.D()}
	b.extend(time.Now())
	return b
}

func (b *body) extend(now time.Time) {
	_ = b.rc.SetReadDeadline(now.Add(b.idle)) // fails only with test recorders
	b.set, b.since = now, 0
}

// Read reads from the body. It moves the deadline at most eight times per idle timeout,
// because that costs more than the read.
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

// done removes the deadline after the whole body was read, so that it does not end later
// work. After a partial body the deadline stays, because net/http continues to read
// before it sends the answer.
func (b *body) done() { _ = b.rc.SetReadDeadline(time.Time{}) }

// bodyProblem returns the refusal for an error of the body. A short body is not
// malformed: the network may have cut it.
func bodyProblem(err error) error {
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return refuse(wire.NewProblem(wire.TimedOut, "less than %d bytes arrived within the idle timeout", progress), err)
	}
	return refuse(wire.NewProblem(wire.TimedOut, "the body ended before its announced length"), err)
}

// readJSON decodes a body of at most limit bytes into v.
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

// tooLarge refuses a body whose limit cannot be configured.
func tooLarge(detail string, args ...any) *wire.Problem {
	p := wire.NewProblem(wire.TooLarge, detail, args...)
	p.Fix = "nothing: the limit is fixed, and a sender of the receiver's own version keeps to it"
	return p
}
