package authority

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/peercred"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Asker asks a running authority over its Unix socket.
type Asker struct {
	http *http.Client
}

// At returns the asker for an authority's socket.
func At(socket string) *Asker {
	return &Asker{peercred.Client(socket, time.Minute)}
}

// CreateTokens makes a join token for each host, or for none.
func (c *Asker) CreateTokens(ctx context.Context, r TokenRequest) (made []Made, err error) {
	return made, c.ask(ctx, http.MethodPost, "/v1/tokens", r, &made)
}

// Tokens lists what the authority knows of tokens; no secret is among it.
func (c *Asker) Tokens(ctx context.Context) (all []TokenInfo, err error) {
	return all, c.ask(ctx, http.MethodGet, "/v1/tokens", nil, &all)
}

// RevokeToken makes a host's open token worthless.
func (c *Asker) RevokeToken(ctx context.Context, h ident.Host) error {
	return c.ask(ctx, http.MethodDelete, "/v1/tokens/"+string(h), nil, nil)
}

// RevokePattern makes the open token of a pattern worthless.
func (c *Asker) RevokePattern(ctx context.Context, p ident.Pattern) error {
	return c.ask(ctx, http.MethodDelete, "/v1/patterns/"+url.PathEscape(string(p)), nil, nil)
}

// Hosts lists every host of the roster.
func (c *Asker) Hosts(ctx context.Context) (all []roster.Host, err error) {
	return all, c.ask(ctx, http.MethodGet, "/v1/hosts", nil, &all)
}

// Host shows one host of the roster.
func (c *Asker) Host(ctx context.Context, h ident.Host) (one roster.Host, err error) {
	return one, c.ask(ctx, http.MethodGet, "/v1/hosts/"+string(h), nil, &one)
}

// Decommission turns a host away from its next request on.
func (c *Asker) Decommission(ctx context.Context, h ident.Host) error {
	return c.ask(ctx, http.MethodPost, "/v1/hosts/"+string(h)+"/decommission", nil, nil)
}

// Readmit lets a decommissioned host enrol again, with a new token.
func (c *Asker) Readmit(ctx context.Context, h ident.Host) error {
	return c.ask(ctx, http.MethodPost, "/v1/hosts/"+string(h)+"/readmit", nil, nil)
}

// Waiting lists the machines that wait for approval.
func (c *Asker) Waiting(ctx context.Context) (all []Waiting, err error) {
	return all, c.ask(ctx, http.MethodGet, "/v1/joins", nil, &all)
}

// Approve admits the machine that shows a code.
func (c *Asker) Approve(ctx context.Context, a Approval) (done Approved, err error) {
	return done, c.ask(ctx, http.MethodPost, "/v1/joins", a, &done)
}

// CA describes the CA.
func (c *Asker) CA(ctx context.Context) (i CAInfo, err error) {
	return i, c.ask(ctx, http.MethodGet, "/v1/ca", nil, &i)
}

// RotateCA makes a new CA; the present one is trusted for the overlap.
func (c *Asker) RotateCA(ctx context.Context) (i CAInfo, err error) {
	return i, c.ask(ctx, http.MethodPost, "/v1/ca/rotate", nil, &i)
}

// RetireCA ends the trust in every older CA.
func (c *Asker) RetireCA(ctx context.Context) (i CAInfo, err error) {
	return i, c.ask(ctx, http.MethodPost, "/v1/ca/retire", nil, &i)
}

func (c *Asker) ask(ctx context.Context, method, path string, in, out any) (err error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://authority"+path, &body)
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.Exit(fault.Fix(errors.New("only root may ask the authority"), "run it again with sudo"), fault.NoPerm)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fault.Exit(fault.Fix(errors.New("the authority does not run on this machine"),
			"on the receiver: sudo systemctl start cis490-bootstrap"), fault.Unavailable)
	case err != nil:
		return fmt.Errorf("the authority did not answer: %w", err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		p, err := wire.ReadLocalProblem(res)
		if err != nil {
			return err
		}
		code := fault.Failed
		if p.Kind == wire.Unauthorized {
			code = fault.NoPerm
		}
		return fault.Exit(fault.Fix(p, p.Fix), code)
	}
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(res.Body)
	if err == nil {
		err = wire.Decode(b, out)
	}
	if err != nil {
		return fmt.Errorf("read the authority's answer: %w", err)
	}
	return nil
}

// decode reads a JSON body; what is wrong with it is a *wire.Problem.
func decode(r io.Reader, into any) error {
	b, err := io.ReadAll(r)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return wire.NewProblem(wire.TooLarge, "body is over %d bytes", tooLarge.Limit)
	}
	if err != nil { // the network may have cut it
		return wire.NewProblem(wire.TimedOut, "the body ended before its announced length")
	}
	if err := wire.Decode(b, into); err != nil {
		return wire.NewProblem(wire.Malformed, "body: %v", err)
	}
	return nil
}
