package sim

import (
	"bytes"
	"context"
	"io"
	"time"

	"cis490/agent/client"
	"cis490/internal/wire"
)

// latest bounds the delay of a repeated delivery.
const latest = 4 * time.Hour

// replays are faults of a proxy that delivers uploads twice: at once, or hours later.
func replays() map[string]Kind {
	set := func(on bool) func(*World, *Machine, Fault) {
		return func(w *World, _ *Machine, f Fault) {
			h := w.hosts[f.Who%len(w.hosts)]
			h.again.Store(on)
			h.later.Store(f.N % int64(latest))
			if f.N&1 != 0 {
				h.later.Store(0)
			}
		}
	}
	return map[string]Kind{"replay": {Mild: true, Often: 3, Most: 5 * time.Hour, start: set(true), end: set(false)}}
}

// proxied is a host's client behind a proxy that delivers uploads twice.
type proxied struct {
	*client.Client
	h *Host
}

// Put is Client.Put. If the second delivery is immediate, it returns the answer to that.
func (p proxied) Put(ctx context.Context, t client.Tarball) (wire.Receipt, bool, error) {
	if !p.h.again.Load() {
		return p.Client.Put(ctx, t)
	}
	f, err := t.Open()
	if err != nil {
		return p.Client.Put(ctx, t)
	}
	content, err := io.ReadAll(f)
	_ = f.Close()
	if err != nil {
		return p.Client.Put(ctx, t)
	}
	t.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	r, created, err := p.Client.Put(ctx, t)
	if err != nil {
		return r, created, err
	}
	later := time.Duration(p.h.later.Load())
	if later == 0 {
		return p.Client.Put(ctx, t)
	}
	p.h.w.wg.Go(func() { p.h.deliver(t, later) })
	return r, created, nil
}

// deliver uploads a tarball again, later, and drops the answer.
func (h *Host) deliver(t client.Tarball, later time.Duration) {
	select {
	case <-h.w.ctx.Done():
		return
	case <-time.After(later):
	}
	cl, err := h.client(h.person(), hostCerts)
	if err != nil {
		return
	}
	defer cl.Close()
	t.Sent = nil
	_, created, err := cl.Put(h.w.ctx, t)
	h.w.trace(h.name, "a proxy delivers %s again: created=%t %v", t.Episode, created, err)
}
