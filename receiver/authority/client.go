package authority

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"cis490/internal/ident"
	"cis490/internal/peercred"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Client sends commands to a running authority over its Unix socket.
type Client struct{ peercred.Service }

// NewClient returns a client of the authority at a socket.
func NewClient(socket string) *Client {
	return &Client{peercred.Service{
		Name: "the authority", Socket: socket, Start: "on the receiver: sudo systemctl start cis490-bootstrap", Timeout: time.Minute,
	}}
}

// CreateTokens creates a join token for each host, or none if one of them cannot have any.
func (c *Client) CreateTokens(ctx context.Context, r TokenRequest) (made []CreatedToken, err error) {
	return made, c.Call(ctx, http.MethodPost, "/v1/tokens", r, &made)
}

// Tokens lists the join tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) (all []TokenInfo, err error) {
	return all, c.Call(ctx, http.MethodGet, "/v1/tokens", nil, &all)
}

// RevokeToken revokes a host's open token.
func (c *Client) RevokeToken(ctx context.Context, h ident.Host) error {
	return c.Call(ctx, http.MethodDelete, "/v1/tokens/"+string(h), nil, nil)
}

// RevokePattern revokes the open token of a pattern.
func (c *Client) RevokePattern(ctx context.Context, p ident.Pattern) error {
	return c.Call(ctx, http.MethodDelete, "/v1/patterns/"+url.PathEscape(string(p)), nil, nil)
}

// Hosts lists every host of the roster.
func (c *Client) Hosts(ctx context.Context) (all []roster.Host, err error) {
	return all, c.Call(ctx, http.MethodGet, "/v1/hosts", nil, &all)
}

// Host shows one host of the roster.
func (c *Client) Host(ctx context.Context, h ident.Host) (one roster.Host, err error) {
	return one, c.Call(ctx, http.MethodGet, "/v1/hosts/"+string(h), nil, &one)
}

// Decommission removes a host from the fleet: its next request is rejected.
func (c *Client) Decommission(ctx context.Context, h ident.Host) error {
	return c.Call(ctx, http.MethodPost, "/v1/hosts/"+string(h)+"/decommission", nil, nil)
}

// Readmit lets a decommissioned host enroll again, with a new token.
func (c *Client) Readmit(ctx context.Context, h ident.Host) error {
	return c.Call(ctx, http.MethodPost, "/v1/hosts/"+string(h)+"/readmit", nil, nil)
}

// Waiting lists the machines that wait for approval.
func (c *Client) Waiting(ctx context.Context) (all []Waiting, err error) {
	return all, c.Call(ctx, http.MethodGet, "/v1/joins", nil, &all)
}

// Approve admits the machine that shows a code.
func (c *Client) Approve(ctx context.Context, a Approval) (done Approved, err error) {
	return done, c.Call(ctx, http.MethodPost, "/v1/joins", a, &done)
}

// Invite creates an invitation for another receiver.
func (c *Client) Invite(ctx context.Context, name ident.Host) (i Invitation, err error) {
	return i, c.Call(ctx, http.MethodPost, "/v1/receivers/"+string(name), nil, &i)
}

// Receivers lists the receivers that were invited.
func (c *Client) Receivers(ctx context.Context) (all []ReceiverInfo, err error) {
	return all, c.Call(ctx, http.MethodGet, "/v1/receivers", nil, &all)
}

// RevokeReceiver ends the invitation and the renewals of a receiver.
func (c *Client) RevokeReceiver(ctx context.Context, name ident.Host) error {
	return c.Call(ctx, http.MethodDelete, "/v1/receivers/"+string(name), nil, nil)
}

// CA describes the CA.
func (c *Client) CA(ctx context.Context) (i CAInfo, err error) {
	return i, c.Call(ctx, http.MethodGet, "/v1/ca", nil, &i)
}

// RotateCA creates a new CA. The current one stays trusted for the overlap.
func (c *Client) RotateCA(ctx context.Context) (i CAInfo, err error) {
	return i, c.Call(ctx, http.MethodPost, "/v1/ca/rotate", nil, &i)
}

// RetireCA ends the trust in every older CA.
func (c *Client) RetireCA(ctx context.Context) (i CAInfo, err error) {
	return i, c.Call(ctx, http.MethodPost, "/v1/ca/retire", nil, &i)
}

// decode parses a JSON body. Its errors are *wire.Problem.
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
