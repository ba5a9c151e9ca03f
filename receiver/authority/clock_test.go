package authority_test

import (
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

const days = 24 * time.Hour

// restartWithClock stops the authority, sets its clock by a difference, and starts it again.
func (s *harness) restartWithClock(by time.Duration) {
	s.t.Helper()
	s.stop()
	s.clock.pass(by)
	s.start()
}

// A CA is created and a host enrolls while the clock is wrong. After the clock is corrected
// the host trusts the authority and renews its certificate.
func TestCA_OfAWrongClock(t *testing.T) {
	for _, off := range []time.Duration{40 * days, -40 * 365 * days} {
		s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now().Add(off)}, log: &log{}, fs: disk.OS{}}
		s.start()
		t.Cleanup(func() { s.stop() })
		roots, csr, secret := s.roots(), s.csr("lab-01"), s.token("lab-01").Secret
		if off > 0 { // a clock of 40 years ago trusts nobody
			if _, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: secret}); err != nil {
				t.Fatal(err)
			}
		}
		s.restartWithClock(-off)
		if err := s.handshake(roots); err != nil {
			t.Errorf("off by %v: %v", off, err)
			continue
		}
		if off < 0 {
			continue
		}
		again, err := s.post("lab-01", wire.CertRequest{CSR: csr})
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseCerts([]byte(again.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); err != nil {
			t.Errorf("off by %v: the renewed certificate: %v", off, err)
		}
	}
}

// The CA is rotated while the clock is wrong. After the clock is corrected, a host that
// knows only the old CA can still renew.
func TestCA_RotatedByAWrongClock(t *testing.T) {
	for _, off := range []time.Duration{40 * days, -200 * days} {
		s := newHarness(t)
		old := s.roots()
		if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: s.token("lab-01").Secret}); err != nil {
			t.Fatal(err)
		}
		s.restartWithClock(off)
		if _, err := s.ask.RotateCA(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.restartWithClock(-off)
		if err := s.handshake(old); err != nil {
			t.Errorf("off by %v: %v", off, err)
		}
	}
}
