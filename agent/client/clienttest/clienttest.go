// Package clienttest is a fake receiver for tests: real TLS, certificates of a real CA, and a
// correct in-memory store, with hooks that replace any answer by a false one. Only tests
// import it.
package clienttest

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// Host is the lab host that the receiver accepts.
const Host ident.Host = "lab-01"

// Put is a PUT that arrived and that no hook answered.
type Put struct {
	Episode ident.EpisodeID
	Digest  ident.Digest
	Commit  ident.Commit
	Status  int // of the answer
}

// Receiver is a fake receiver. Its hooks are set before requests arrive. Each hook gets a
// request first and returns true when it answered.
type Receiver struct {
	URL string
	CA  pki.Issuer
	// LosesAnswer reports whose uploads are stored but not answered.
	LosesAnswer func(ident.EpisodeID) bool
	OnPut       func(http.ResponseWriter, *http.Request) bool
	OnPing      func(http.ResponseWriter, *http.Request) bool
	Server      *httptest.Server
	// Names and Life describe the server's certificate.
	Names []string
	Life  time.Duration

	certs string

	mu      sync.Mutex
	stored  map[ident.EpisodeID]wire.Receipt
	puts    []Put
	pings   []wire.Ping
	storeID string
	policy  string
	refuse  map[ident.Commit]*wire.Problem
}

// Start starts a receiver on the loopback interface. change, if not nil, may
// change the receiver before its first request.
func Start(tb testing.TB, change func(*Receiver)) *Receiver {
	tb.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	r := &Receiver{
		CA: ca, certs: tb.TempDir(), storeID: "store-1", policy: "policy-1",
		Names: []string{"127.0.0.1"}, Life: time.Hour,
		stored: map[ident.EpisodeID]wire.Receipt{}, refuse: map[ident.Commit]*wire.Problem{},
	}
	if change != nil {
		change(r)
	}
	path := filepath.Join(tb.TempDir(), "server.pem")
	r.issueServer(tb, path, r.Names, r.Life)
	pair := pki.NewPair(disk.OS{}, path)
	cert, err := pair.Get()
	if err != nil {
		tb.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(wire.EpisodePattern, r.put)
	mux.HandleFunc("POST "+wire.PingPath, r.ping)
	mux.HandleFunc("POST "+wire.ReconcilePath, r.reconcile)
	mux.HandleFunc("GET "+wire.GatePrefix+"{commit}", r.gate)
	mux.HandleFunc("PUT "+wire.HostHealthPath+"/{host}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	r.Server = httptest.NewUnstartedServer(mux)
	r.Server.EnableHTTP2 = true
	r.Server.TLS = pki.ServerTLS(pair)
	r.Server.TLS.Certificates = []tls.Certificate{*cert} // httptest would add its own
	r.Server.StartTLS()
	tb.Cleanup(func() { r.Server.CloseClientConnections(); r.Server.Close() })
	r.URL = r.Server.URL
	r.IssueHost(tb)
	return r
}

// Config returns the config of a lab host of this receiver, with its data in a
// folder that the test removes.
func (r *Receiver) Config(tb testing.TB) config.LabHost {
	tb.Helper()
	c := config.DefaultLabHost()
	c.Host, c.CertsDir, c.DataDir = string(Host), r.certs, tb.TempDir()
	c.Receiver.URL, c.Authority.URL = r.URL, r.URL
	c.Ship.IdleTimeout = config.Duration(5 * time.Second)
	return c
}

// IssueHost writes new credentials of the host and renames them into place.
func (r *Receiver) IssueHost(tb testing.TB) {
	tb.Helper()
	key, err := pki.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := r.CA.Client(key.Public(), Host, time.Now(), time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	pem, err := pki.EncodeKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	swap(tb, filepath.Join(r.certs, "ca.crt"), pki.EncodeCerts(r.CA.Cert))
	swap(tb, filepath.Join(r.certs, "lab-host.pem"), append(pki.EncodeCerts(cert), pem...))
	swap(tb, filepath.Join(r.certs, "bearer"), []byte("bearer-of-"+string(Host)+"\n"))
}

// RemoveCredentials deletes files of the host's credentials; without names, all of them.
func (r *Receiver) RemoveCredentials(tb testing.TB, names ...string) {
	tb.Helper()
	if len(names) == 0 {
		names = []string{"ca.crt", "lab-host.pem", "bearer"}
	}
	for _, f := range names {
		if err := os.Remove(filepath.Join(r.certs, f)); err != nil {
			tb.Fatal(err)
		}
	}
}

func (r *Receiver) issueServer(tb testing.TB, path string, names []string, life time.Duration) {
	tb.Helper()
	key, err := pki.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := r.CA.Server(key.Public(), names, time.Now(), life)
	if err != nil {
		tb.Fatal(err)
	}
	pem, err := pki.EncodeKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	swap(tb, path, append(pki.EncodeCerts(cert), pem...))
}

func swap(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := errors.Join(os.WriteFile(path+".partial", content, 0o600), os.Rename(path+".partial", path)); err != nil {
		tb.Fatal(err)
	}
}

// Become changes the receiver's store id and policy. A new store is empty.
func (r *Receiver) Become(store, policy string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if store != r.storeID {
		clear(r.stored)
	}
	r.storeID, r.policy = store, policy
}

// Refuse answers PUTs of a commit with a problem; nil ends that.
func (r *Receiver) Refuse(c ident.Commit, p *wire.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse[c] = p
}

// Forget drops a stored episode, like a disk that lost it.
func (r *Receiver) Forget(id ident.EpisodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.stored, id)
}

// Stored returns the digests of the stored episodes.
func (r *Receiver) Stored() map[ident.EpisodeID]ident.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[ident.EpisodeID]ident.Digest{}
	for id, rec := range r.stored {
		out[id] = rec.Digest
	}
	return out
}

// Puts returns the PUTs so far, without those that a hook answered.
func (r *Receiver) Puts() []Put {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Put(nil), r.puts...)
}

// Pings returns the pings so far.
func (r *Receiver) Pings() []wire.Ping {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]wire.Ping(nil), r.pings...)
}

func (r *Receiver) put(w http.ResponseWriter, req *http.Request) {
	if r.OnPut != nil && r.OnPut(w, req) {
		return
	}
	id := ident.EpisodeID(strings.TrimSuffix(req.PathValue("file"), wire.TarballSuffix))
	p := Put{Episode: id, Digest: ident.Digest(req.Header.Get(wire.HeaderDigest)), Commit: ident.Commit(req.Header.Get(wire.HeaderCommit))}
	rec, created, problem := r.take(p, req)
	p.Status = http.StatusOK
	switch {
	case problem != nil:
		p.Status = problem.Status
	case created:
		p.Status = http.StatusCreated
	}
	r.mu.Lock()
	r.puts = append(r.puts, p)
	r.mu.Unlock()
	if r.LosesAnswer != nil && r.LosesAnswer(id) {
		panic(http.ErrAbortHandler)
	}
	if problem != nil {
		Refuse(w, problem)
		return
	}
	JSON(w, p.Status, rec)
}

func (r *Receiver) take(p Put, req *http.Request) (wire.Receipt, bool, *wire.Problem) {
	r.mu.Lock()
	old, have := r.stored[p.Episode]
	problem := r.refuse[p.Commit]
	r.mu.Unlock()
	switch {
	case len(req.TLS.PeerCertificates) == 0 || req.Header.Get("Authorization") != "Bearer bearer-of-"+string(Host):
		return wire.Receipt{}, false, wire.NewProblem(wire.Unauthorized, "who are you?")
	case have && old.Digest == p.Digest:
		return old, false, nil
	case problem != nil:
		return wire.Receipt{}, false, problem
	case have:
		return wire.Receipt{}, false, wire.NewProblem(wire.OtherDigest, "%s is stored", old.Digest)
	}
	h := sha256.New()
	n, err := io.Copy(h, req.Body)
	if err != nil || hex.EncodeToString(h.Sum(nil)) != string(p.Digest) {
		return wire.Receipt{}, false, wire.NewProblem(wire.BadDigest, "after %d bytes", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := wire.Receipt{Host: Host, Episode: p.Episode, Digest: p.Digest, Size: n, StoredAt: time.Now().UTC(), StoreID: r.storeID}
	r.stored[p.Episode] = rec
	return rec, true, nil
}

func (r *Receiver) ping(w http.ResponseWriter, req *http.Request) {
	if r.OnPing != nil && r.OnPing(w, req) {
		return
	}
	var p wire.Ping
	if err := json.NewDecoder(req.Body).Decode(&p); err != nil {
		Refuse(w, wire.NewProblem(wire.Malformed, "%v", err))
		return
	}
	r.mu.Lock()
	r.pings = append(r.pings, p)
	pong := wire.Pong{ServerTime: time.Now(), StoreID: r.storeID, Policy: r.policy, Gate: wire.Verdict{Accepted: true}}
	r.mu.Unlock()
	JSON(w, http.StatusOK, pong)
}

func (r *Receiver) reconcile(w http.ResponseWriter, req *http.Request) {
	var q wire.Reconcile
	if err := json.NewDecoder(req.Body).Decode(&q); err != nil {
		Refuse(w, wire.NewProblem(wire.Malformed, "%v", err))
		return
	}
	r.mu.Lock()
	out := wire.Reconciled{StoreID: r.storeID}
	for _, p := range q.Episodes {
		if r.stored[p.Episode].Digest == p.Digest {
			out.Stored = append(out.Stored, p.Episode)
		}
	}
	r.mu.Unlock()
	JSON(w, http.StatusOK, out)
}

func (r *Receiver) gate(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	p := r.refuse[ident.Commit(req.PathValue("commit"))]
	r.mu.Unlock()
	JSON(w, http.StatusOK, wire.Verdict{Accepted: p == nil})
}

// Refuse answers with a problem document.
func Refuse(w http.ResponseWriter, p *wire.Problem) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	b, err := json.Marshal(p)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", wire.ContentTypeProblem)
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // the test sees what arrived
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", wire.ContentTypeJSON)
	w.WriteHeader(status)
	_, _ = w.Write(b) // the test sees what arrived
}
