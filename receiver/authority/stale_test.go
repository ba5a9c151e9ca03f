package authority_test

import (
	"bytes"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/roster"
)

// After a host is readmitted, its older tokens stay revoked: those it had when it was
// replaced, and those that were expired while the clock was ahead.
func TestReadmitted_OlderTokensAreRevoked(t *testing.T) {
	for name, leave := range map[string]func(*harness) error{
		"replaced": func(s *harness) error {
			made, err := s.ask.CreateTokens(t.Context(), authority.TokenRequest{Hosts: []ident.Host{"lab-02"}, Replaces: "lab-01"})
			if err != nil {
				return err
			}
			tok, err := wire.ParseToken(made[0].Token)
			if err != nil {
				return err
			}
			_, err = s.post("lab-02", wire.CertRequest{CSR: s.csr("lab-02"), Token: tok.Secret})
			return err
		},
		"the clock was ahead": func(s *harness) error {
			s.clock.pass(73 * time.Hour)
			defer s.clock.pass(-73 * time.Hour)
			return s.ask.Decommission(t.Context(), "lab-01")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHarness(t)
			if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: s.token("lab-01").Secret}); err != nil {
				t.Fatal(err)
			}
			old := s.token("lab-01") // not used
			if err := leave(s); err != nil {
				t.Fatal(err)
			}
			if h := s.host("lab-01"); h.State != roster.Gone || !h.TokenExpires.IsZero() {
				t.Errorf("the decommissioned host is %s with a token until %s", h.State, h.TokenExpires)
			}
			if err := s.ask.Readmit(t.Context(), "lab-01"); err != nil {
				t.Fatal(err)
			}
			for _, when := range []string{"at once", "after a restart"} {
				_, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: old.Secret})
				if err == nil {
					t.Fatalf("%s: the older token is accepted", when)
				}
				wantKind(t, err, wire.BadToken)
				s.stop()
				s.start()
			}
		})
	}
}

// A server certificate issued while the clock was far ahead is not valid yet: hosts would
// reject it for months.
func TestServerCertificates_OfAClockThatWasAheadAreReplaced(t *testing.T) {
	s := newHarness(t)
	roots := s.roots()
	for _, step := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		s.stop()
		s.clock.pass(step)
		s.start()
	}
	if err := s.handshake(roots); err != nil {
		t.Error(err)
	}
}

// An IP address may be written in more than one way.
func TestServerCertificates_AnAddressWrittenOtherwiseIsTheSame(t *testing.T) {
	s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: disk.OS{}, url: "https://[FD00:0:0::1]:8444"}
	s.start()
	t.Cleanup(func() { s.stop() })
	before := read(t, s.path(authority.ServerFile))
	s.stop()
	s.start()
	if !bytes.Equal(before, read(t, s.path(authority.ServerFile))) {
		t.Error("a restart alone changed the server certificate")
	}
}
