package authority_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

const nonce = "000102030405060708090a0b0c0d0e0f"

// machine is a new machine without a token.
type machine struct {
	s    *harness
	host ident.Host
	ip   net.IP
	got  wire.JoinStarted
}

func (m *machine) post(suffix string, in, out any) error {
	m.s.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		m.s.t.Fatal(err)
	}
	conf := pki.ClientTLS(m.s.roots(), nil)
	conf.Time = m.s.clock.now
	dial := &net.Dialer{LocalAddr: &net.TCPAddr{IP: m.ip}}
	cl := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DialContext: dial.DialContext}}
	res, err := cl.Post("https://"+m.s.auth.Addr().String()+wire.CertPrefix+string(m.host)+suffix, wire.ContentTypeJSON, bytes.NewReader(b))
	if err != nil {
		m.s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	documented(m.s.t, res)
	if res.StatusCode != http.StatusOK {
		p, err := wire.ReadLocalProblem(res)
		if err != nil {
			m.s.t.Fatal(err)
		}
		return p
	}
	return json.NewDecoder(res.Body).Decode(out)
}

func (m *machine) root() ident.Digest {
	return pki.PinOf(mustCerts(m.s.t, m.s.path(authority.CAFile))[0])
}

func (m *machine) start() error {
	return m.post(wire.JoinSuffix, wire.JoinRequest{Root: m.root(), Commitment: wire.CommitJoin(nonce)}, &m.got)
}

func (m *machine) wait() (string, error) {
	var out wire.JoinAnswer
	err := m.post(wire.JoinWaitSuffix, wire.JoinWait{ID: m.got.ID, Nonce: nonce}, &out)
	return out.Token, err
}

func (m *machine) code() string { return wire.JoinCode(m.root(), m.host, nonce, m.got.Nonce) }

func newMachine(s *harness, h ident.Host) *machine {
	return &machine{s: s, host: h, ip: net.IPv4(127, 0, 0, 1)}
}

// requestJoin starts a request, so that the machine shows a code.
func requestJoin(t *testing.T, m *machine) {
	t.Helper()
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if token, err := m.wait(); err != nil || token != "" {
		t.Fatal(token, err)
	}
	m.s.clock.pass(3 * time.Second)
}

func TestJoin_ApprovedByItsCode(t *testing.T) {
	s := newHarness(t)
	m := newMachine(s, "lab-01")
	requestJoin(t, m)
	if all, err := s.ask.Waiting(t.Context()); err != nil || len(all) != 1 || all[0].Host != "lab-01" || all[0].From != "127.0.0.1" {
		t.Fatal(all, err)
	}
	done, err := s.ask.Approve(t.Context(), authority.Approval{Code: m.code()})
	if err != nil || done.Host != "lab-01" || done.Root != m.root() {
		t.Fatal(done, err)
	}
	text, err := m.wait()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := wire.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: tok.Secret}); err != nil {
		t.Error(err)
	}
	s.clock.pass(3 * time.Second) // an answer may be lost
	if again, err := m.wait(); again != text {
		t.Error(again, err)
	}
	if all, err := s.ask.Waiting(t.Context()); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
	if _, err := s.ask.Approve(t.Context(), authority.Approval{Code: m.code()}); err == nil {
		t.Error("approved twice")
	}
}

// Approving the name of an active host requires Again.
func TestJoin_NameOfAnActiveHost(t *testing.T) {
	s := newHarness(t)
	tok := s.token("lab-01")
	if _, err := s.post("lab-01", wire.CertRequest{CSR: s.csr("lab-01"), Token: tok.Secret}); err != nil {
		t.Fatal(err)
	}
	m := newMachine(s, "lab-01")
	requestJoin(t, m)
	_, err := s.ask.Approve(t.Context(), authority.Approval{Code: m.code()})
	if err == nil || !strings.Contains(fault.FixOf(err), "--again") {
		t.Fatal(err)
	}
	if _, err := s.ask.Approve(t.Context(), authority.Approval{Code: m.code(), Again: true}); err != nil {
		t.Error(err)
	}
}

func TestJoin_Refused(t *testing.T) {
	s := newHarness(t)
	kind := func(err error) wire.Kind {
		p, _ := errors.AsType[*wire.Problem](err)
		if p == nil {
			t.Fatal(err)
		}
		return p.Kind
	}
	m := newMachine(s, "lab-01")
	var out wire.JoinStarted
	// Another root: an attacker in the middle presents its own.
	other := wire.JoinRequest{Root: wire.CommitJoin("x"), Commitment: wire.CommitJoin(nonce)}
	if got := kind(m.post(wire.JoinSuffix, other, &out)); got != wire.Malformed {
		t.Error(got)
	}
	requestJoin(t, m)
	if _, err := s.ask.Approve(t.Context(), authority.Approval{Code: "000000"}); err == nil && m.code() != "000000" {
		t.Error("approved by another code")
	}
	var answer wire.JoinAnswer
	for _, w := range []wire.JoinWait{{ID: "x", Nonce: nonce}, {Nonce: nonce}} {
		if got := kind(m.post(wire.JoinWaitSuffix, w, &answer)); got != wire.BadToken {
			t.Errorf("%+v: %s", w, got)
		}
	}
	if got := kind(m.post(wire.JoinWaitSuffix, wire.JoinWait{ID: m.got.ID, Nonce: "zz"}, &answer)); got != wire.Malformed {
		t.Error(got)
	}
	elsewhere := *m
	elsewhere.host = "lab-02"
	if _, err := elsewhere.wait(); kind(err) != wire.BadToken {
		t.Error(err)
	}
	// Too often.
	if _, err := m.wait(); err != nil {
		t.Error(err)
	}
	if _, err := m.wait(); kind(err) != wire.Busy {
		t.Error(err)
	}
	// Too late.
	s.clock.pass(10 * time.Minute)
	if _, err := s.ask.Approve(t.Context(), authority.Approval{Code: m.code()}); err == nil {
		t.Error("approved after ten minutes")
	}
	if _, err := m.wait(); kind(err) != wire.BadToken {
		t.Error(err)
	}
	// A nonce chosen after the authority's was known.
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	late := wire.JoinWait{ID: m.got.ID, Nonce: strings.Repeat("00", 16)}
	if got := kind(m.post(wire.JoinWaitSuffix, late, &answer)); got != wire.BadToken {
		t.Error(got)
	}
}

// Machines that nobody approves use a bounded number of places. They block no host with a
// token, and add nothing to the log or the roster.
func TestJoin_Budget(t *testing.T) {
	s := newHarness(t)
	refused := 0
	for i := range 200 {
		m := newMachine(s, ident.Host(fmt.Sprintf("lab-%d", i)))
		m.ip = net.IPv4(127, 0, byte(1+i%4), byte(1+i/4))
		err := m.start()
		if err == nil {
			_, err = m.wait()
		}
		if p, ok := errors.AsType[*wire.Problem](err); ok && p.Kind == wire.Busy && p.RetryAfter > 0 {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.ask.Waiting(t.Context())
	if err != nil || len(all) != 64 || refused != 200-64 {
		t.Errorf("%d machines wait, %d were refused: %v", len(all), refused, err)
	}
	if n := strings.Count(s.log.String(), "\n"); n > 40 {
		t.Errorf("%d lines in the log", n)
	}
	if hosts, err := s.ask.Hosts(t.Context()); err != nil || len(hosts) != 0 {
		t.Error(hosts, err)
	}
	if _, err := s.post("lab-x", wire.CertRequest{CSR: s.csr("lab-x"), Token: s.token("lab-x").Secret}); err != nil {
		t.Errorf("a host with a token: %v", err)
	}
	s.clock.pass(10 * time.Minute)
	one := func(h ident.Host, ip net.IP) error {
		m := newMachine(s, h)
		m.ip = ip
		return m.start()
	}
	for i := range 40 { // one network
		err := one(ident.Host(fmt.Sprintf("pc-%d", i)), net.IPv4(127, 0, 9, byte(1+i)))
		if p, ok := errors.AsType[*wire.Problem](err); ok != (i >= 32) || ok && p.Kind != wire.Busy {
			t.Fatalf("machine %d of one network: %v", i, err)
		}
	}
	// A machine that starts again replaces its own request.
	if err := one("pc-0", net.IPv4(127, 0, 9, 1)); err != nil {
		t.Error(err)
	}
	if err := one("pc-99", net.IPv4(127, 0, 8, 1)); err != nil {
		t.Errorf("another network: %v", err)
	}
}
