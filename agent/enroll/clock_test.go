package enroll_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/internal/fault"
	"cis490/internal/machine"
	"cis490/internal/pki"
)

const days = 24 * time.Hour

// skewed is a host and its authority, each with its own clock error.
type skewed struct {
	*lab
	host, authority time.Duration
}

// newSkewed makes an authority whose CA and server certificate are issued by its own clock.
func newSkewed(t *testing.T, host, authority time.Duration) *skewed {
	t.Helper()
	s := &skewed{lab: newLab(t)}
	s.now = func() time.Time { return time.Now().Add(s.host) }
	s.peer.now = func() time.Time { return time.Now().Add(s.authority) }
	s.peer.life = 30 * days
	s.set(host, authority)
	var err error
	if s.peer.ca, err = pki.NewCA(s.peer.now()); err != nil {
		t.Fatal(err)
	}
	s.peer.pin = pki.PinOf(s.peer.ca.Cert)
	s.peer.certify()
	return s
}

// set moves both clocks; the authority renews its own certificate, as it does within a
// minute.
func (s *skewed) set(host, authority time.Duration) {
	s.host, s.authority = host, authority
	s.peer.certify()
}

func (s *skewed) valid() bool {
	s.t.Helper()
	pair, err := pki.ParsePair([]byte(s.file(client.PairFile)))
	if err != nil {
		s.t.Fatal(err)
	}
	return pki.CheckValidity(pair.Leaf, s.now()) == nil
}

// Host, authority and CA are 40 days ahead at enrollment and are then corrected: a
// certificate that is not valid yet is renewed without help.
func TestClock_AheadAtEnrollmentThenRight(t *testing.T) {
	s := newSkewed(t, 40*days, 40*days)
	s.join(secret)
	s.must(false, enroll.Enrolled)
	s.must(false, enroll.Nothing)
	s.set(0, 0)
	if s.valid() {
		t.Fatal("the certificate is valid: this shows nothing")
	}
	if st, err := s.enroller().Status(); err != nil || !st.Due {
		t.Errorf("status: %+v, %v", st, err)
	}
	s.must(false, enroll.Renewed)
	if !s.valid() || !s.works() {
		t.Error("the credentials do not work")
	}
	s.must(false, enroll.Nothing)
}

// The receiver cannot be asked about the renewed certificate, and the present one is not
// valid yet: installing the new one loses nothing.
func TestClock_AheadThenRightWhileTheReceiverIsAway(t *testing.T) {
	s := newSkewed(t, 40*days, 40*days)
	s.join(secret)
	s.must(false, enroll.Enrolled)
	s.set(0, 0)
	s.probe = func(context.Context, string) error { return errors.New("no answer") }
	s.must(false, enroll.Renewed)
	if !s.valid() {
		t.Error("the certificate of the wrong clock stays")
	}
}

// A renewed certificate waits to be tested with the receiver while the clocks are
// corrected: it is not valid anymore, and another one is requested.
func TestClock_ARenewalThatWaitsIsOfTheWrongTime(t *testing.T) {
	s := newSkewed(t, 0, 0)
	s.join(secret)
	s.must(false, enroll.Enrolled)
	s.set(25*days, 25*days)
	s.probe = func(context.Context, string) error { return errors.New("no answer") }
	if _, err := s.run(false); err == nil {
		t.Fatal("a certificate was swapped in that nobody was shown")
	}
	s.set(0, 0)
	s.probe = func(context.Context, string) error { return nil }
	s.must(false, enroll.Nothing) // the first one is good
	if _, err := os.Stat(filepath.Join(s.dir, "next")); err == nil || !s.valid() {
		t.Errorf("the certificate of the wrong time: %v", err)
	}
}

// Only this host's clock is wrong: no certificate would be valid by it, so none is
// requested, and the error names the clock.
func TestClock_OnlyThisHostsClockIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-10 * days, 40 * days} {
		s := newSkewed(t, 0, 0)
		s.join(secret)
		s.must(false, enroll.Enrolled)
		s.set(off, 0)
		s.peer.serverLife = 100 * days // reaches to both
		s.peer.certify()
		asked := s.peer.count
		_, err := s.run(false)
		if err == nil || fault.FixOf(err) != machine.ClockFix ||
			!strings.Contains(err.Error(), "this machine's clock:") {
			t.Errorf("off by %v: %v, fix %q", off, err, fault.FixOf(err))
		}
		if s.peer.count != asked {
			t.Errorf("off by %v: %d certificates were issued for nothing", off, s.peer.count-asked)
		}
		s.set(0, 0)
		s.must(false, enroll.Nothing)
	}
}
