package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cis490/receiver/objects"
)

// How often the bucket is probed, and how long that may take.
const (
	probeWell    = time.Minute
	probeIll     = 3 * time.Second
	probeTimeout = 10 * time.Second
)

// state is the result of the last probe. While the bucket is unusable, uploads are rejected
// without a request, and only the probe sends requests.
type state struct {
	mu   sync.Mutex
	bad  error
	wake chan struct{} // has an element after a request failed
}

var errNotAsked = fmt.Errorf("%w: it was not asked yet", objects.ErrAway)

func (s *state) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bad
}

func (s *state) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = err
}

// note records an error that affects all requests.
func (s *state) note(err error) {
	for _, all := range []error{objects.ErrAway, objects.ErrDenied, objects.ErrSkewed, objects.ErrFull} {
		if errors.Is(err, all) {
			s.set(err)
			select {
			case s.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

// probe tests all operations of an upload.
func (s *served) probe() error {
	ctx, cancel := context.WithTimeout(s.ctx, probeTimeout)
	defer cancel()
	err := Marked(ctx, s.o.Bucket, s.ID())
	if err == nil {
		err = s.o.Bucket.Probe(ctx, s.ID())
	}
	if err != nil {
		err = Explain(err)
	}
	s.state.set(err)
	return err
}

// watch probes the bucket until the store is closed.
func (s *served) watch() {
	defer s.ended.Done()
	said := s.state.err()
	for {
		every := probeWell
		if s.state.err() != nil {
			every = probeIll
		}
		next := time.NewTimer(every)
		select {
		case <-s.ctx.Done():
			next.Stop()
			return
		case <-s.state.wake:
			next.Stop()
		case <-next.C:
		}
		err := s.probe()
		switch {
		case s.ctx.Err() != nil:
			return
		case err == nil && said != nil:
			s.o.Log.Info("object store is back", "store", s.o.Bucket.Name())
		case err != nil && said == nil:
			s.o.Log.Warn("object store cannot be used", "store", s.o.Bucket.Name(), "err", err)
		}
		if said = err; err == nil {
			s.settleAll()
		}
	}
}

// places limits concurrent uploads. The limit is halved when the store asks for fewer
// requests, and grows by one after each success.
type places struct {
	mu          sync.Mutex
	most, taken int
	now         float64
	halved      time.Time
}

func (p *places) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if float64(p.taken) >= p.now {
		return false
	}
	p.taken++
	return true
}

func (p *places) leave(err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	switch {
	case err == nil:
		p.now = min(float64(p.most), p.now+1)
	case errors.Is(err, objects.ErrSlow) && now.Sub(p.halved).Abs() > time.Second:
		p.now, p.halved = max(1, p.now/2), now
	}
}
