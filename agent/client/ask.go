package client

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Ping sends this host's state and returns the receiver's answer.
func (c *Client) Ping(ctx context.Context, p wire.Ping) (wire.Pong, error) {
	var out wire.Pong
	if err := c.ask(ctx, http.MethodPost, wire.PingPath, p, &out); err != nil {
		return wire.Pong{}, err
	}
	if out.StoreID == "" || out.Policy == "" || out.ServerTime.IsZero() {
		return wire.Pong{}, c.notOurs("the answer to a ping lacks store_id, policy or server_time")
	}
	return out, nil
}

// Reconcile asks which of at most wire.MaxPairs episodes the receiver has.
func (c *Client) Reconcile(ctx context.Context, pairs []wire.Pair) (wire.Reconciled, error) {
	var out wire.Reconciled
	if err := c.ask(ctx, http.MethodPost, wire.ReconcilePath, wire.Reconcile{Episodes: pairs}, &out); err != nil {
		return wire.Reconciled{}, err
	}
	if out.StoreID == "" {
		return wire.Reconciled{}, c.notOurs("the answer to a reconcile lacks store_id")
	}
	return out, nil
}

// PutHealth sends a health report: JSON of at most wire.MaxSnapshot bytes.
func (c *Client) PutHealth(ctx context.Context, snapshot []byte) error {
	res, err := c.do(ctx, http.MethodPut, wire.HostHealthPath+"/"+string(c.host), bytes.NewReader(snapshot), func(r *http.Request) {
		r.Header.Set("Content-Type", wire.ContentTypeJSON)
	}, http.StatusOK, http.StatusCreated)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Gate asks whether the receiver accepts episodes that a commit recorded.
func (c *Client) Gate(ctx context.Context, commit ident.Commit) (wire.Verdict, error) {
	// An answer without accepted, such as an empty object, is invalid.
	var out struct {
		Accepted *bool `json:"accepted"`
		wire.Verdict
	}
	if err := c.ask(ctx, http.MethodGet, wire.GatePrefix+string(commit), nil, &out); err != nil {
		return wire.Verdict{}, err
	}
	if out.Accepted == nil {
		return wire.Verdict{}, c.notOurs("the answer of the gate lacks its verdict")
	}
	out.Verdict.Accepted = *out.Accepted
	return out.Verdict, nil
}

// Get requests a path with extra headers (If-None-Match, Range). It returns a response of
// status 200, 206 or 304, whose body the caller closes. The idle timeout applies to the
// body too.
func (c *Client) Get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	res, err := c.do(ctx, http.MethodGet, path, nil, func(r *http.Request) {
		maps.Copy(r.Header, header)
	}, http.StatusOK, http.StatusPartialContent, http.StatusNotModified)
	if err != nil {
		return nil, err
	}
	if a, ok := res.Body.(*answer); ok {
		a.long = true
	}
	return res, nil
}

// Refusal returns the *wire.Problem in err, or nil.
func Refusal(err error) *wire.Problem {
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return p
	}
	return nil
}
