package pki_test

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"cis490/internal/pki"
)

// made is a helper for two-valued constructors.
func made[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRenewAt_BetweenTwoThirdsAndATwentiethLater(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca := made(pki.NewCA(now))(t)
	key := made(pki.NewKey())(t)
	for _, life := range []time.Duration{5 * time.Minute, 30 * 24 * time.Hour} {
		c := made(ca.Client(key.Public(), "lab-01", now, life))(t)
		if start, l := pki.Life(c); !start.Equal(now) || l != life {
			t.Errorf("Life = %v, %v; want %v, %v", start, l, now, life)
		}
		seen := map[time.Time]bool{}
		for i := range 20 {
			at := pki.RenewAt(c, fmt.Sprintf("lab-%02d", i))
			if after := at.Sub(now); after < life*2/3 || after > life*2/3+life/20 {
				t.Errorf("life %v: renews after %v", life, after)
			}
			seen[at] = true
		}
		if len(seen) < 15 {
			t.Errorf("life %v: 20 hosts renew at %d times only", life, len(seen))
		}
		if a, b := pki.RenewAt(c, "lab-01"), pki.RenewAt(c, "lab-01"); !a.Equal(b) {
			t.Errorf("the same host renews at %v and at %v", a, b)
		}
	}
}

func TestCross_OldRootsAcceptTheNextCAUntilThen(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first, second, third := made(pki.NewCA(now))(t), made(pki.NewCA(now))(t), made(pki.NewCA(now))(t)
	until := now.Add(120 * 24 * time.Hour)
	crosses := x509.NewCertPool()
	crosses.AddCert(made(first.Cross(second.Cert, now, until))(t))
	crosses.AddCert(made(second.Cross(third.Cert, now, until))(t))
	leaf := made(third.Server(made(pki.NewKey())(t).Public(), []string{"rx.lab"}, now, 200*24*time.Hour))(t)
	roots := x509.NewCertPool()
	roots.AddCert(first.Cert)
	verify := func(at time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: "rx.lab", Roots: roots, Intermediates: crosses, CurrentTime: at})
		return err
	}
	if err := verify(now.Add(time.Hour)); err != nil {
		t.Errorf("within the overlap: %v", err)
	}
	if err := verify(until.Add(time.Hour)); err == nil {
		t.Error("accepted after the overlap")
	}
}
