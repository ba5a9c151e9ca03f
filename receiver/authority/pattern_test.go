package authority_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

func (s *harness) classToken(p ident.Pattern, uses int) wire.Token {
	s.t.Helper()
	made, err := s.ask.CreateTokens(s.t.Context(), authority.TokenRequest{Pattern: p, Uses: uses})
	if err != nil {
		s.t.Fatal(err)
	}
	tok, err := wire.ParseToken(made[0].Token)
	if err != nil || tok.Pattern != p || tok.Host != "" {
		s.t.Fatal(tok, err)
	}
	return tok
}

func (s *harness) join(tok wire.Token, h ident.Host, csr string) wire.Kind {
	s.t.Helper()
	_, err := s.post(h, wire.CertRequest{CSR: csr, Token: tok.Secret})
	if err == nil {
		return ""
	}
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		s.t.Fatal(err)
	}
	return p.Kind
}

// A pattern's token admits a number of new machines with matching names, each with its own
// key.
func TestPattern_AdmitsNewHosts(t *testing.T) {
	s := newHarness(t)
	if _, err := s.post("room12-old", wire.CertRequest{CSR: s.csr("room12-old"), Token: s.token("room12-old").Secret}); err != nil {
		t.Fatal(err)
	}
	tok := s.classToken("room12-*", 2)
	first := s.csr("room12-01")
	for _, c := range []struct {
		host ident.Host
		csr  string
		want wire.Kind
	}{
		{"room13-01", s.csr("room13-01"), wire.BadToken},
		{"room12-old", s.csr("room12-old"), wire.BadToken}, // it is a host already
		{"room12-01", s.csr("room12-02"), wire.BadCSR},     // costs no use
		{"room12-01", first, ""},
		{"room12-01", first, ""}, // the answer was lost
		{"room12-01", s.csr("room12-01"), wire.TokenUsed},
		{"room12-02", s.csr("room12-02"), ""},
		{"room12-03", s.csr("room12-03"), wire.BadToken},
	} {
		if got := s.join(tok, c.host, c.csr); got != c.want {
			t.Errorf("%s: %q, want %q", c.host, got, c.want)
		}
	}
	if h := s.host("room12-01"); h.State != "active" || h.Misused.IsZero() {
		t.Errorf("%+v", h)
	}
	s.stop()
	s.start() // what the ledger says is the same
	if got := s.join(tok, "room12-03", s.csr("room12-03")); got != wire.BadToken {
		t.Errorf("after a restart: %q", got)
	}
	if got := s.join(tok, "room12-01", first); got != "" {
		t.Errorf("after a restart: %q", got)
	}
	all, err := s.ask.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := all[len(all)-1]; last.Name() != "room12-* (2 of 2 used)" || last.State != "used" {
		t.Errorf("%+v", last)
	}
}

func TestPattern_EndsByTimeRevocationAndSuccessor(t *testing.T) {
	s := newHarness(t)
	old := s.classToken("a*", 5)
	tok := s.classToken("a*", 5)
	if got := s.join(old, "a1", s.csr("a1")); got != wire.BadToken {
		t.Errorf("the older one: %q", got)
	}
	csr := s.csr("a1")
	if got := s.join(tok, "a1", csr); got != "" {
		t.Fatal(got)
	}
	if err := s.ask.RevokePattern(t.Context(), "a*"); err != nil {
		t.Fatal(err)
	}
	if got := s.join(tok, "a2", s.csr("a2")); got != wire.BadToken {
		t.Errorf("a revoked one: %q", got)
	}
	if got := s.join(tok, "a1", csr); got != "" {
		t.Errorf("the host that used it before: %q", got)
	}
	late := s.classToken("b*", 1)
	s.clock.pass(73 * time.Hour)
	if got := s.join(late, "b1", s.csr("b1")); got != wire.TokenExpired {
		t.Errorf("an expired one: %q", got)
	}
	for _, ask := range []authority.TokenRequest{
		{Pattern: "a*"},
		{Pattern: "a*", Uses: 1001},
		{Pattern: "a*", Uses: 1, TTL: time.Second},
		{Pattern: "a*", Uses: 1, Hosts: []ident.Host{"x"}},
		{Hosts: []ident.Host{"x"}, Uses: 2},
	} {
		if _, err := s.ask.CreateTokens(t.Context(), ask); err == nil || strings.Contains(fmt.Sprint(err), "internal") {
			t.Errorf("%+v: %v", ask, err)
		}
	}
}
