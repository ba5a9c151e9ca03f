package authority

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"cis490/internal/fault"
	"cis490/internal/listen"
	"cis490/internal/peercred"
	"cis490/internal/wire"
	rx "cis490/receiver"
)

// State describes which machine has the authority, as a machine that shares it knows.
type State struct {
	Active  bool   `json:"active"`            // this one
	Holder  string `json:"holder,omitempty"`  // the other one
	Problem string `json:"problem,omitempty"` // why this machine could not take over
	Fix     string `json:"fix,omitempty"`
}

// standbyState is the state of a machine that stands by.
type standbyState struct {
	mu sync.Mutex
	State
}

// set notes the error of the last look, and returns it in words.
func (s *standbyState) set(err error) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, other := errors.AsType[*rx.HeldError](err)
	switch {
	case other && held.Work == rx.Publishing:
		s.State = State{Holder: held.Holder}
		return held.Holder + " has the authority"
	case other: // a third machine
		s.State = State{}
		return held.Holder + " stands by already"
	default:
		s.State = State{Problem: err.Error(), Fix: fault.FixOf(err)}
	}
	return s.Problem
}

func (s *standbyState) get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.State
}

// standsBy is the answer of a machine that does not have the authority.
func standsBy(holder string) *wire.Problem {
	p := wire.NewProblem(wire.NotReady, "this machine does not have the authority")
	p.Title, p.RetryAfter = "the authority is on another machine", 5
	p.Fix = "sudo cis490 status   # names the machine that has the authority: run this there"
	if holder != "" {
		p.Detail = "this machine stands by: " + holder + " has the authority"
		p.Fix = "run this on " + holder
	}
	return p
}

// answerStandby answers requests at the admin socket while this machine stands by.
func (a *Authority) answerStandby(state *standbyState) (stop func(), err error) {
	l, err := a.o.Admin(a.o.Config.Socket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/state", func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, state.get()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s := state.get()
		p := standsBy(s.Holder)
		if s.Problem != "" {
			p.Detail = "this machine stands by: " + s.Problem
		}
		sendProblem(w, p)
	})
	server := listen.Server(a.onlyRoot(mux), a.o.Log)
	server.ConnContext = peercred.WithCaller
	done := make(chan struct{})
	go func() {
		_ = server.Serve(l) // ends with Close
		close(done)
	}()
	return sync.OnceFunc(func() {
		_ = server.Close() // nothing is in progress that matters
		<-done
	}), nil
}

// State describes which machine has the authority.
func (c *Client) State(ctx context.Context) (s State, err error) {
	return s, c.Call(ctx, http.MethodGet, "/v1/state", nil, &s)
}
