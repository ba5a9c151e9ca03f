package authority_test

import (
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// A rotation is interrupted at each step. Then and after a restart, a host that knows only
// the old CA is served, and its certificate is valid.
func TestRotation_CutOffAtEveryStep(t *testing.T) {
	for step := 0; ; step++ {
		fs := &failing{left: 1 << 30}
		s := &harness{t: t, dir: t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: fs}
		s.start()
		csr := s.csr("lab-01")
		first, err := s.post("lab-01", wire.CertRequest{CSR: csr, Token: s.token("lab-01").Secret})
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseCerts([]byte(first.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		oldRoots := s.roots()
		in := func(when string) {
			t.Helper()
			if err := s.handshake(oldRoots); err != nil {
				t.Errorf("step %d, %s: a host that knows only the old CA: %v", step, when, err)
			}
			if _, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); err != nil {
				t.Errorf("step %d, %s: the certificate issued before: %v", step, when, err)
			}
			if _, err := s.post("lab-01", wire.CertRequest{CSR: csr}); err != nil {
				t.Errorf("step %d, %s: %v", step, when, err)
			}
		}
		fs.left = step
		_, err = s.ask.RotateCA(t.Context())
		fs.left = 1 << 30
		in("cut off")
		s.stop()
		s.fs = disk.OS{}
		s.start()
		in("after a restart")
		s.stop()
		if err == nil {
			if step < 6 {
				t.Errorf("only %d steps", step)
			}
			return
		}
	}
}
