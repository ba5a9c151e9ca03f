package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/plain"
)

// Kind identifies a problem; it is the last part of the problem's type.
type Kind string

// typePrefix turns a kind into the URI that RFC 9457 requires. A tag URI (RFC 4151) needs
// no page behind it.
const typePrefix = "tag:cis490,2026:problem:"

// Problem is an RFC 9457 problem: the answer to a rejected request. Handlers return it as
// an error, and clients get it back.
type Problem struct {
	Kind       Kind         `json:"-"`
	Status     int          `json:"status"`
	Title      string       `json:"title"`
	Detail     string       `json:"detail,omitempty"`
	Fix        string       `json:"fix"`
	YourCommit ident.Commit `json:"your_commit,omitempty"`
	HeadCommit ident.Commit `json:"head_commit,omitempty"`
	// Policy is the receiver's policy at the rejection, which holds until the policy
	// changes.
	Policy     string `json:"policy,omitempty"`
	RetryAfter int    `json:"-"` // seconds, sent as a header; 0: none
}

// NewProblem returns a problem of a kind with a formatted detail. Status, title and fix
// come from the table.
func NewProblem(k Kind, detail string, args ...any) *Problem {
	a := AnswerOf(k)
	return &Problem{Kind: k, Status: a.Status, Title: a.Title, Fix: a.Fix, Detail: fmt.Sprintf(detail, args...)}
}

// Error returns title and detail. The status is for programs.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// FixFor returns a fix of the table with the host's own name.
func FixFor(fix, host string) string {
	if host == "" {
		return fix
	}
	return strings.ReplaceAll(fix, "HOST", host)
}

// MarshalJSON adds the type.
func (p *Problem) MarshalJSON() ([]byte, error) {
	type plain Problem
	return json.Marshal(struct {
		Type string `json:"type"`
		*plain
	}{typePrefix + string(p.Kind), (*plain)(p)})
}

// UnmarshalJSON rejects problems of other programs.
func (p *Problem) UnmarshalJSON(b []byte) error {
	type plain Problem
	v := struct {
		Type string `json:"type"`
		*plain
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	kind, ours := strings.CutPrefix(v.Type, typePrefix)
	if !ours {
		return fmt.Errorf("problem type %.80q is not a cis490 problem", v.Type)
	}
	p.Kind = Kind(kind)
	return nil
}

// ErrNotOurs means that an answer is not from a cis490 receiver, but from a captive portal,
// a proxy or another server. It says nothing about the request.
var ErrNotOurs = errors.New("the answer is not from a cis490 receiver")

// ReadProblem reads the problem from a response. Anything but a cis490 problem with the
// status of its kind is ErrNotOurs. Title and fix come from this build's table, because
// people paste fixes into root shells and a receiver must not choose them.
func ReadProblem(r *http.Response) (*Problem, error) {
	p, err := ReadLocalProblem(r)
	if err != nil {
		return nil, err
	}
	own := AnswerOf(p.Kind)
	if p.Fix = own.Fix; known(p.Kind) {
		p.Title = own.Title
	}
	return p, nil
}

// ReadLocalProblem is ReadProblem for a service on this machine: title and fix are the
// service's. Each text becomes one line without hidden characters.
func ReadLocalProblem(r *http.Response) (*Problem, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != ContentTypeProblem {
		return nil, fmt.Errorf("%w: status %d with content type %.80q", ErrNotOurs, r.StatusCode, kind)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	p := &Problem{}
	if len(b) > MaxAnswer {
		return nil, fmt.Errorf("%w: status %d with a problem of over %d bytes", ErrNotOurs, r.StatusCode, MaxAnswer)
	}
	if err := Decode(b, p); err != nil {
		return nil, fmt.Errorf("%w: status %d: %w", ErrNotOurs, r.StatusCode, err)
	}
	if p.Status != r.StatusCode {
		return nil, fmt.Errorf("%w: status %d with a problem of status %d", ErrNotOurs, r.StatusCode, p.Status)
	}
	// Only a newer receiver sends an unknown kind.
	if want := AnswerOf(p.Kind).Status; known(p.Kind) && p.Status != want {
		return nil, fmt.Errorf("%w: status %d with a problem of type %s, whose status is %d", ErrNotOurs, r.StatusCode, p.Kind, want)
	}
	p.Kind = Kind(plain.Line(string(p.Kind), 64))
	p.Title, p.Detail, p.Fix = plain.Line(p.Title, 200), plain.Line(p.Detail, 1000), plain.Line(p.Fix, 1000)
	p.Policy = plain.Line(p.Policy, 200)
	p.RetryAfter = retryAfter(r.Header.Get("Retry-After"))
	return p, nil
}

// retryAfter parses the header's seconds, at most an hour. Dates are ignored: receivers do
// not send them, and they depend on two clocks.
func retryAfter(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0
	}
	return min(n, 3600)
}
