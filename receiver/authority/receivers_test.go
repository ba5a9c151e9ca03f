package authority_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

// invited returns the invitation of a receiver.
func (s *harness) invited(name ident.Host) wire.Token {
	s.t.Helper()
	made, err := s.ask.Invite(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	t, err := wire.ParseServerToken(made.Token)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func (s *harness) postServer(name ident.Host, req wire.CertRequest) (wire.CertAnswer, error) {
	s.t.Helper()
	b, err := json.Marshal(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.postTo(name, wire.ServerSuffix, b)
}

// receiver returns the state of a receiver.
func (s *harness) receiver(name ident.Host) string {
	s.t.Helper()
	all, err := s.ask.Receivers(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all {
		if r.Name == name {
			return r.State
		}
	}
	return ""
}

func csrOf(t testing.TB, key *ecdsa.PrivateKey, name ident.Host) string {
	t.Helper()
	b, err := pki.NewCSR(key, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReceivers_JoinAndRenew: a receiver gets a certificate for the public names and for nothing
// else, renews it with its key, also after expiry and after a restart of the authority, until it
// is revoked.
func TestReceivers_JoinAndRenew(t *testing.T) {
	s := newHarness(t)
	s.stop()
	s.url = "https://authority.lab:8444" // whose name other receivers must not have
	s.start()
	tok, key := s.invited("rx2"), must[*ecdsa.PrivateKey](t)(pki.NewKey())
	if !tok.Pinned(pki.PinOf(mustCerts(t, s.path(authority.CAFile))[0])) || tok.Authority != s.url || s.receiver("rx2") != "invited" {
		t.Errorf("the invitation: %s, %s, state %s", tok.Pin, tok.Authority, s.receiver("rx2"))
	}
	csr := csrOf(t, key, "rx2")
	answer, err := s.postServer("rx2", wire.CertRequest{CSR: csr, Token: tok.Secret})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseCerts([]byte(answer.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	if !slices.Equal(leaf.DNSNames, []string{"rx.lab"}) || len(leaf.IPAddresses) != 1 || !leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) ||
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.IsCA {
		t.Errorf("names %v %v, uses %v", leaf.DNSNames, leaf.IPAddresses, leaf.ExtKeyUsage)
	}
	if err := pki.VerifyServer(chain, s.roots(), "rx.lab", s.clock.now()); err != nil {
		t.Error(err)
	}
	if err := pki.VerifyServer(chain, s.roots(), "authority.lab", s.clock.now()); err == nil {
		t.Error("the receiver can stand in for the authority")
	}
	if h, err := pki.VerifyClient(chain, s.roots(), s.clock.now()); err == nil {
		t.Errorf("the certificate is a host's, of %s", h)
	}
	if answer.Bearer != "" || s.host("rx2").State != "" {
		t.Error("the receiver became a host")
	}
	// The answer may be lost: the same key may ask again, also once the invitation is over.
	s.clock.pass(2 * time.Hour)
	if _, err := s.postServer("rx2", wire.CertRequest{CSR: csr, Token: tok.Secret}); err != nil {
		t.Error(err)
	}
	s.clock.pass(100 * 24 * time.Hour)
	s.stop()
	s.start()
	if _, err := s.postServer("rx2", wire.CertRequest{CSR: csr}); err != nil || s.receiver("rx2") != "active" {
		t.Errorf("renewal: %v, state %s", err, s.receiver("rx2"))
	}
	if err := s.ask.RevokeReceiver(t.Context(), "rx2"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.start()
	_, err = s.postServer("rx2", wire.CertRequest{CSR: csr})
	wantKind(t, err, wire.NotInvited)
	_, err = s.postServer("rx2", wire.CertRequest{CSR: csr, Token: tok.Secret})
	wantKind(t, err, wire.NotInvited)
	if s.receiver("rx2") != "revoked" {
		t.Errorf("state %s", s.receiver("rx2"))
	}
	if _, err := s.postServer("rx2", wire.CertRequest{CSR: csr, Token: s.invited("rx2").Secret}); err != nil {
		t.Errorf("invited again: %v", err)
	}
	b, err := os.ReadFile(s.path(authority.ReceiversFile))
	if err != nil || strings.Contains(string(b), tok.Secret) || strings.Contains(s.log.String(), tok.Secret) {
		t.Errorf("a secret is stored or logged: %v", err)
	}
}

// TestReceivers_Refused: whatever a holder of one credential tries, it gets no other.
func TestReceivers_Refused(t *testing.T) {
	s := newHarness(t)
	key := func() *ecdsa.PrivateKey { return must[*ecdsa.PrivateKey](t)(pki.NewKey()) }
	ask := func(csr string, token wire.Token) wire.CertRequest {
		return wire.CertRequest{CSR: csr, Token: token.Secret}
	}
	none := wire.Token{}
	// rx2 is a receiver, and a host has the same name.
	hostKey, rxKey := key(), key()
	hostToken, invitation := s.token("rx2"), s.invited("rx2")
	if _, err := s.post("rx2", ask(csrOf(t, hostKey, "rx2"), hostToken)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.postServer("rx2", ask(csrOf(t, rxKey, "rx2"), invitation)); err != nil {
		t.Fatal(err)
	}
	again, open := s.token("lab-02"), s.invited("rx3")
	names := func(change func(*x509.CertificateRequest)) string {
		return string(request(t, key(), func(r *x509.CertificateRequest) {
			r.Subject.CommonName, r.DNSNames = "rx3", nil
			change(r)
		}))
	}
	for _, c := range []struct {
		what   string
		server bool
		name   ident.Host
		req    wire.CertRequest
		want   string // a part of the problem
	}{
		{"an invitation used by another key", true, "rx2", ask(csrOf(t, key(), "rx2"), invitation), "it first"},
		{"an invitation for another name", true, "rx4", ask(csrOf(t, key(), "rx4"), open), "no such invitation of receiver rx4"},
		{"a host's token for a receiver", true, "lab-02", ask(csrOf(t, key(), "lab-02"), again), "no such invitation of receiver lab-02"},
		{"a host's token, same name", true, "rx2", ask(csrOf(t, hostKey, "rx2"), hostToken), "no such invitation of receiver rx2"},
		{"an invitation for a host", false, "rx3", ask(csrOf(t, key(), "rx3"), open), "there is no such token for rx3"},
		{"a receiver's key for a host", false, "rx2", ask(csrOf(t, rxKey, "rx2"), none), "no certificate of rx2 was issued to this key"},
		{"a host's key, same name", true, "rx2", ask(csrOf(t, hostKey, "rx2"), none), "no server certificate of receiver rx2"},
		{"a host's key for its own name", true, "lab-02", ask(csrOf(t, hostKey, "lab-02"), none), "no server certificate of receiver lab-02"},
		{"a receiver's key for another one", true, "rx3", ask(csrOf(t, rxKey, "rx3"), none), "no server certificate of receiver rx3"},
		{"no token and no key", true, "rx3", ask(csrOf(t, key(), "rx3"), none), "no server certificate of receiver rx3"},
		{"a request of another name", true, "rx3", ask(csrOf(t, key(), "rx2"), open), "want CN=rx3 alone"},
		{"a request for the public name", true, "rx3", wire.CertRequest{CSR: names(func(r *x509.CertificateRequest) {
			r.DNSNames = []string{"rx.lab"}
		}), Token: open.Secret}, "names more than rx3"},
		{"a request for an address", true, "rx3", wire.CertRequest{CSR: names(func(r *x509.CertificateRequest) {
			r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
		}), Token: open.Secret}, "names more than rx3"},
		{"a request for use as a client", true, "rx3", wire.CertRequest{
			CSR: names(extension(t, []int{2, 5, 29, 37}, [][]int{{1, 3, 6, 1, 5, 5, 7, 3, 2}})), Token: open.Secret,
		}, "asks for extension"},
		{"no request", true, "rx3", wire.CertRequest{Token: open.Secret}, "exactly one certificate request"},
	} {
		post := s.post
		if c.server {
			post = s.postServer
		}
		s.stop()
		s.start() // with a new limit of rejections
		_, err := post(c.name, c.req)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	newer := s.invited("rx3")
	_, err := s.postServer("rx3", ask(csrOf(t, key(), "rx3"), open))
	wantKind(t, err, wire.NotInvited)
	s.clock.pass(61 * time.Minute)
	_, err = s.postServer("rx3", ask(csrOf(t, key(), "rx3"), newer))
	wantKind(t, err, wire.NotInvited)
	if p, ok := errors.AsType[*wire.Problem](err); !ok || !strings.Contains(p.Detail, "expired") {
		t.Error(err)
	}
	if err := s.ask.RevokeReceiver(t.Context(), "lab-02"); err == nil {
		t.Error("a host was revoked as a receiver")
	}
}

// TestReceivers_NothingUndurable: without its row there is no certificate.
func TestReceivers_NothingUndurable(t *testing.T) {
	s := newHarness(t)
	s.stop()
	disk := &cutLedger{}
	s.fs = disk
	s.start()
	tok := s.invited("rx2")
	disk.allow(0)
	if _, err := s.postServer("rx2", wire.CertRequest{CSR: s.csr("rx2"), Token: tok.Secret}); err == nil {
		t.Error("a certificate was issued without its row")
	}
}
