//go:build e2e || solo

// Package solo tries one receiver alone, as the real program on this machine:
// how fast it is beside its peers (make bench), what a kill in the middle of
// its work costs (make crashtest), what it does when calls to the disk fail, and
// how it works behind a real proxy. It needs no root.
package solo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/e2e/attack"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

const commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestMain(m *testing.M) {
	if plainServer() || attack.Process() { // this program is its own peer too
		return
	}
	dir, err := os.MkdirTemp("", "cis490-solo-")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.buildVersion=1.0.0 -X main.buildCommit="+commit, "-o", filepath.Join(dir, "cis490"), "cis490")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	_ = os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a receiver's files, of which the test plays the authority, and the
// running program.
type rig struct {
	t    testing.TB
	dir  string
	ca   pki.Issuer
	addr string
	wrap []string // what the program is started by
	role string   // the command that is started, "serve" by default
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
}

func newRig(t testing.TB, conf string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &bytes.Buffer{}}
	var err error
	r.ca, err = pki.NewCA(time.Now())
	must(t, err)
	must(t, os.Mkdir(r.path("authority"), 0o755))
	r.write("authority/trust.pem", string(pki.EncodeCerts(r.ca.Cert)))
	cert, key := r.serverPair()
	r.write("authority/server.pem", cert+key)
	r.write("authority/"+local.RosterFile, "")
	r.write("operator", "secret\n")
	r.write("receiver.toml", fmt.Sprintf("public_url = \"https://localhost:8443\"\nlisten = \"127.0.0.1:0\"\ndata_dir = %q\noperator_file = %q\n%s\n[authority]\ndir = %q\n",
		r.path("data"), r.path("operator"), conf, r.path("authority")))
	return r
}

// serverPair returns a server certificate of the authority and its key.
func (r *rig) serverPair() (cert, key string) {
	r.t.Helper()
	k, err := pki.NewKey()
	must(r.t, err)
	c, err := r.ca.Server(k.Public(), []string{"localhost", "127.0.0.1"}, time.Now(), 24*time.Hour)
	must(r.t, err)
	pem, err := pki.EncodeKey(k)
	must(r.t, err)
	return string(pki.EncodeCerts(c)), string(pem)
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, content string) {
	r.t.Helper()
	must(r.t, disk.ReplaceBytes(disk.OS{}, r.path(name), 0o600, []byte(content)))
}

// start starts the receiver and waits until it listens.
func (r *rig) start() {
	r.t.Helper()
	_ = os.Remove(r.path("addr"))
	args := append(append([]string{}, r.wrap...), "cis490", "--log-level", "warn", cmp.Or(r.role, "serve"), "--config", r.path("receiver.toml"), "--addr-file", r.path("addr"))
	r.cmd = exec.Command(args[0], args[1:]...)
	r.log.Reset()
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	must(r.t, r.cmd.Start())
	done := make(chan struct{})
	cmd := r.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	r.done = done
	r.t.Cleanup(r.kill)
	r.eventually("it listens", func() bool {
		select {
		case <-done:
			r.t.Fatalf("the receiver ended: %s", r.log)
		default:
		}
		b, err := os.ReadFile(r.path("addr"))
		r.addr = strings.TrimSpace(string(b))
		return err == nil
	})
}

// pid returns the receiver's own process, also where it was started by another.
func (r *rig) pid() int {
	if len(r.wrap) == 0 {
		return r.cmd.Process.Pid
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", r.cmd.Process.Pid, r.cmd.Process.Pid))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// kill is kill -9.
func (r *rig) kill() {
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.done
}

// stop is what systemctl stop does.
func (r *rig) stop() {
	_ = syscall.Kill(r.pid(), syscall.SIGTERM)
	<-r.done
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline, tick := time.After(60*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("not so after 60 s: %s; log: %.2000s", what, r.log)
		case <-tick.C:
		}
	}
}

// status is a line of /proc/PID/status, in KiB.
func (r *rig) status(key string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
	must(r.t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	r.t.Fatalf("no %s", key)
	return 0
}

// host is an enrolled lab host.
type host struct {
	r      *rig
	name   ident.Host
	pair   *tls.Certificate
	client *http.Client
}

func (r *rig) enrol(name ident.Host) *host {
	r.t.Helper()
	k, err := pki.NewKey()
	must(r.t, err)
	c, err := r.ca.Client(k.Public(), name, time.Now(), 24*time.Hour)
	must(r.t, err)
	b, err := json.Marshal(roster.Event{
		At: time.Now().UTC(), Host: name, Event: roster.Enrolled, Serial: pki.Serial(c),
		Bearer: digestOf([]byte("bearer-" + name)), Expires: time.Now().Add(24 * time.Hour),
	})
	must(r.t, err)
	f, err := os.OpenFile(r.path("authority/"+local.RosterFile), os.O_APPEND|os.O_WRONLY, 0)
	must(r.t, err)
	_, err = f.Write(append(b, '\n'))
	must(r.t, err)
	must(r.t, f.Close())
	h := &host{r: r, name: name, pair: &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k, Leaf: c}}
	h.client = r.clientOf(h.pair, false)
	return h
}

// clientOf returns a client with one connection at a time, of HTTP/2 to a proxy if so wanted.
func (r *rig) clientOf(pair *tls.Certificate, h2 bool) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Cert)
	conf := pki.ClientTLS(pool, pair)
	if !h2 {
		conf.NextProtos = []string{"http/1.1"}
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: 1, WriteBufferSize: 64 << 10}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Minute}
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// newID returns an episode id that was never used.
func newID() ident.EpisodeID {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [25]byte
	_, _ = rand.Read(b[:])
	for i, c := range b {
		b[i] = letters[c%32]
	}
	return ident.EpisodeID("0" + string(b[:]))
}

// put sends a body and returns the status; 0 with an error where none came.
func (h *host) put(id ident.EpisodeID, body []byte, digest ident.Digest) (int, error) {
	return h.send(id, bytes.NewReader(body), len(body), digest)
}

// send is put of a body that comes bit by bit.
func (h *host) send(id ident.EpisodeID, body io.Reader, size int, digest ident.Digest) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "https://"+h.r.addr+wire.EpisodePath(h.name, id), body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = int64(size)
	req.Header = http.Header{
		"Content-Type": {wire.ContentTypeEpisode}, "X-Content-Sha256": {string(digest)}, "X-Schema-Version": {"1"},
		"X-Lab-Host": {string(h.name)}, "X-Episode-Id": {string(id)}, "X-Cis490-Code-Commit": {commit}, "Authorization": {"Bearer bearer-" + string(h.name)},
	}
	res, err := h.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(res.Body); err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}

func (r *rig) rows() map[receiver.Key][]receiver.Entry {
	r.t.Helper()
	rows := map[receiver.Key][]receiver.Entry{}
	for row, err := range local.Open(local.Options{FS: disk.OS{}, Dir: r.path("data")}).Index.Since(time.Time{}) {
		must(r.t, err)
		rows[row.Key()] = append(rows[row.Key()], row)
	}
	return rows
}
