//go:build e2e || solo

// Package solo tests a single receiver, the real program on this machine: its speed
// compared with others (make bench), kills during its work (make crashtest), failing disk
// calls, and a real proxy. It needs no root.
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
	"errors"
	"fmt"
	"io"
	"net"
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
	"cis490/internal/disk/disktest"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

const commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// asInstalled is the variable by which this program runs another one in the services' sandbox.
const asInstalled = "CIS490_SOLO_AS_INSTALLED"

func TestMain(m *testing.M) {
	if os.Getenv(asInstalled) != "" {
		path, err := exec.LookPath(os.Args[1])
		panic(errors.Join(err, disktest.Exec(path, os.Args[1:], os.Environ())))
	}
	if referenceServer() || attack.Process() { // started by a test
		return
	}
	dir, err := os.MkdirTemp("", "cis490-solo-")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.buildVersion=1.0.0 -X main.buildCommit="+commit, "-o",
		filepath.Join(dir, "cis490"), "cis490")
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

// A harness is a receiver: its files and the running program. The test itself is the
// authority.
type harness struct {
	t    testing.TB
	dir  string
	ca   pki.Issuer
	addr string
	wrap []string // a command that starts the program
	role string   // the subcommand, "serve" by default
	logs string   // the log level, "warn" by default
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
	// answer is the last one of /readyz.
	answer string
}

func newHarness(t testing.TB, conf string) *harness {
	t.Helper()
	r := &harness{t: t, dir: t.TempDir(), log: &bytes.Buffer{}}
	var err error
	r.ca, err = pki.NewCA(time.Now())
	must(t, err)
	must(t, os.Mkdir(r.path("authority"), 0o755))
	r.write("authority/trust.pem", string(pki.EncodeCerts(r.ca.Cert)))
	cert, key := r.serverPair()
	r.write("authority/server.pem", cert+key)
	r.write("authority/"+local.RosterFile, "")
	r.write("operator", "secret\n")
	r.write("receiver.toml", fmt.Sprintf("public_url = \"https://localhost:8443\"\nlisten = \"127.0.0.1:0\"\ndata_dir = %q\n"+
		"operator_file = %q\n%s\n[authority]\ndir = %q\n",
		r.path("data"), r.path("operator"), conf, r.path("authority")))
	return r
}

// serverPair returns a new server certificate and its key, in PEM.
func (r *harness) serverPair() (cert, key string) {
	r.t.Helper()
	k, err := pki.NewKey()
	must(r.t, err)
	c, err := r.ca.Server(k.Public(), []string{"localhost", "127.0.0.1"}, time.Now(), 24*time.Hour)
	must(r.t, err)
	pem, err := pki.EncodeKey(k)
	must(r.t, err)
	return string(pki.EncodeCerts(c)), string(pem)
}

func (r *harness) path(name string) string { return filepath.Join(r.dir, name) }

func (r *harness) write(name, content string) {
	r.t.Helper()
	must(r.t, disk.ReplaceBytes(disk.OS{}, r.path(name), 0o600, []byte(content)))
}

// start starts the receiver and waits until it listens.
func (r *harness) start() {
	r.t.Helper()
	_ = os.Remove(r.path("addr"))
	args := append(append([]string{}, r.wrap...), "cis490", "--log-level", cmp.Or(r.logs, "warn"), cmp.Or(r.role, "serve"), "--config",
		r.path("receiver.toml"), "--addr-file", r.path("addr"))
	r.cmd = exec.Command(args[0], args[1:]...)
	if len(r.wrap) == 0 {
		r.cmd = exec.Command(os.Args[0], args...)
		r.cmd.Env = append(os.Environ(), asInstalled+"=1")
	}
	r.log.Reset()
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	must(r.t, r.cmd.Start())
	done := make(chan struct{})
	cmd := r.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	r.done = done
	r.t.Cleanup(r.kill)
	r.waitFor("the receiver listens", func() bool {
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

// pid returns the pid of the receiver, not of wrap.
func (r *harness) pid() int {
	if len(r.wrap) == 0 {
		return r.cmd.Process.Pid
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", r.cmd.Process.Pid, r.cmd.Process.Pid))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// kill sends SIGKILL and waits for the end.
func (r *harness) kill() {
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.done
}

// stop sends SIGTERM, as systemctl stop does, and waits for the end.
func (r *harness) stop() {
	_ = syscall.Kill(r.pid(), syscall.SIGTERM)
	<-r.done
}

func (r *harness) waitFor(what string, ok func() bool) {
	r.t.Helper()
	deadline, tick := time.After(60*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("wait for %q: timeout after 60 s; answer: %s; log: %.2000s", what, r.answer, r.log)
		case <-tick.C:
		}
	}
}

// statusKiB returns a value of /proc/PID/status, such as VmHWM, in KiB.
func (r *harness) statusKiB(key string) int {
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

// A host is an enrolled lab host.
type host struct {
	r      *harness
	name   ident.Host
	pair   *tls.Certificate
	client *http.Client
}

func (r *harness) enroll(name ident.Host) *host {
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

// clientOf returns a client with one connection at a time, with HTTP/2 if h2 is set.
func (r *harness) clientOf(pair *tls.Certificate, h2 bool) *http.Client {
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

// newID returns a random episode id.
func newID() ident.EpisodeID {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [25]byte
	_, _ = rand.Read(b[:])
	for i, c := range b {
		b[i] = letters[c%32]
	}
	return ident.EpisodeID("0" + string(b[:]))
}

// put uploads a body and returns the status code, or 0 with an error.
func (h *host) put(id ident.EpisodeID, body []byte, digest ident.Digest) (int, error) {
	return h.send(id, bytes.NewReader(body), len(body), digest)
}

// send is put for a streamed body.
func (h *host) send(id ident.EpisodeID, body io.Reader, size int, digest ident.Digest) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "https://"+h.r.addr+wire.EpisodePath(h.name, id), body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = int64(size)
	req.Header = http.Header{
		"Content-Type": {wire.ContentTypeEpisode}, "X-Content-Sha256": {string(digest)}, "X-Schema-Version": {"1"},
		"X-Lab-Host": {string(h.name)}, "X-Episode-Id": {string(id)}, "X-Cis490-Code-Commit": {commit}, "Authorization": {"Bearer bearer-" +
			string(h.name)},
	}
	// An upload may be repeated. So net/http sends it again on a new connection if the server closes
	// the idle one at that moment (RFC 9110, section 9.2.2). No such header is sent.
	req.Header["Idempotency-Key"] = nil
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

func (r *harness) rows() map[receiver.Key][]receiver.Entry {
	r.t.Helper()
	rows := map[receiver.Key][]receiver.Entry{}
	for row, err := range local.Open(local.Options{FS: disk.OS{}, Dir: r.path("data")}).Index.Since(time.Time{}) {
		must(r.t, err)
		rows[row.Key()] = append(rows[row.Key()], row)
	}
	return rows
}

// ask sends a command to a program's Unix socket and returns the answer.
func ask(t testing.TB, socket, command string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	must(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, command)
	must(t, err)
	b, err := io.ReadAll(c)
	must(t, err)
	return string(b)
}
