//go:build solo

package solo

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cis490/internal/ident"
)

const (
	smallBody = 4 << 10
	largeBody = 64 << 20
	rounds    = 3
	roundTime = 4 * time.Second
	// bodiesEach is how many large bodies each client sends.
	bodiesEach = 8
)

// A sender sends one body and waits for the answer.
type sender func(body []byte) error

// rate runs each sender in a loop for roundTime, and returns the number of answered bodies
// per second.
func rate(t *testing.T, size int, senders []sender) float64 {
	t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for _, send := range senders {
		wg.Go(func() {
			body := make([]byte, size)
			_, _ = rand.Read(body)
			for i := uint64(0); time.Since(began) < roundTime; i++ {
				binary.LittleEndian.PutUint64(body, i)
				_, _ = rand.Read(body[8:24])
				if err := send(body); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(began).Seconds()
}

func (h *host) sender() sender {
	return func(body []byte) error {
		status, err := h.put(newID(), body, digestOf(body))
		if err == nil && status != http.StatusCreated {
			err = fmt.Errorf("answered %d", status)
		}
		return err
	}
}

func newSenders(r *harness, n int) (all []sender) {
	for i := range n {
		h := r.enroll(ident.Host(fmt.Sprintf("lab-%d-%d", n, i)))
		all = append(all, h.sender())
	}
	return all
}

// TestBench_SmallBodies compares durable small uploads with restic's rest-server. PEER is
// the path of its program.
func TestBench_SmallBodies(t *testing.T) {
	r := newHarness(t, "[limits]\nuploads = 1024")
	r.start()
	peer := startPeer(t, r)
	for _, clients := range []int{1, 16, 64} {
		ours := newSenders(r, clients)
		for range rounds {
			before := r.spent()
			a := rate(t, smallBody, ours)
			us, written := r.spent().per(before, a*roundTime.Seconds())
			name := fmt.Sprintf("SmallBodies/clients=%d", clients)
			if peer == nil {
				figure(t, name, a, "req/s", us, "cpu-us/req", written, "B-written/req")
				continue
			}
			b := rate(t, smallBody, peer(clients))
			figure(t, name, a, "req/s", b, "peer-req/s", a/b, "ratio", us, "cpu-us/req", written, "B-written/req")
		}
	}
	figure(t, "SmallBodies", r.peakMiB(), "MiB-peak")
}

// startPeer starts rest-server and returns a function that creates n clients of it.
func startPeer(t *testing.T, r *harness) func(n int) []sender {
	t.Helper()
	program := os.Getenv("PEER")
	if program == "" {
		t.Log("PEER is not set: no comparison with rest-server")
		return nil
	}
	cert, key := r.serverPair()
	r.write("peer.crt", cert)
	r.write("peer.key", key)
	const addr = "127.0.0.1:18999"
	cmd := exec.Command(program, "--path", r.path("peer"), "--listen", addr, "--no-auth", "--tls", "--tls-cert", r.path("peer.crt"),
		"--tls-key", r.path("peer.key"), "--tls-min-ver", "1.3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	post := func(c *http.Client, path string, body []byte) error {
		res, err := c.Post("https://"+addr+path, "application/octet-stream", bytes.NewReader(body))
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("rest-server answered %d", res.StatusCode)
			}
		}
		return err
	}
	c := r.clientOf(nil, false)
	r.waitFor("rest-server is up", func() bool { return post(c, "/?create=true", nil) == nil })
	return func(n int) (all []sender) {
		for range n {
			c := r.clientOf(nil, false)
			all = append(all, func(body []byte) error { return post(c, "/data/"+string(digestOf(body)), body) })
		}
		return all
	}
}

// TestBench_LargeBodies compares 64 MiB uploads with referenceServer, which does only the
// necessary work.
func TestBench_LargeBodies(t *testing.T) {
	r := newHarness(t, "")
	r.start()
	plain := startReference(t, r)
	for _, clients := range []int{1, 4} {
		ours, limit := newSenders(r, clients), plain(clients)
		for range rounds {
			before := r.spent()
			a := megabytes(t, ours)
			us, written := r.spent().per(before, float64(clients*bodiesEach))
			b := megabytes(t, limit)
			figure(t, fmt.Sprintf("LargeBodies/clients=%d", clients), a, "MB/s", b, "limit-MB/s", a/b, "ratio",
				us, "cpu-us/req", written, "B-written/req")
			r.removeBodies()
		}
	}
	figure(t, "LargeBodies", r.peakMiB(), "MiB-peak")
	r.kill()
}

// megabytes sends eight bodies with each sender and returns the throughput in MB/s.
func megabytes(t *testing.T, senders []sender) float64 {
	t.Helper()
	bodies := make([][]byte, len(senders))
	for i := range bodies {
		bodies[i] = make([]byte, largeBody)
		_, _ = rand.Read(bodies[i])
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i, send := range senders {
		wg.Go(func() {
			for range bodiesEach {
				if err := send(bodies[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(len(senders)*bodiesEach*largeBody) / 1e6 / time.Since(began).Seconds()
}

// removeBodies removes stored bodies, to free disk space.
func (r *harness) removeBodies() {
	for _, pattern := range []string{"data/episodes/*/*", "plain-*"} {
		files, _ := filepath.Glob(r.path(pattern))
		for _, f := range files {
			_ = os.Remove(f)
		}
	}
}

func startReference(t *testing.T, r *harness) func(n int) []sender {
	t.Helper()
	cert, key := r.serverPair()
	r.write("plain.crt", cert)
	r.write("plain.key", key)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CIS490_SOLO_PLAIN="+r.dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var addr []byte
	r.waitFor("the reference server is up", func() bool {
		var err error
		addr, err = os.ReadFile(r.path("plain.addr"))
		return err == nil
	})
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Cert)
	return func(n int) (all []sender) {
		for range n {
			c, err := tls.Dial("tcp", string(addr), &tls.Config{RootCAs: pool, ServerName: "localhost"})
			must(t, err)
			t.Cleanup(func() { _ = c.Close() })
			in := bufio.NewReader(c)
			all = append(all, func(body []byte) error {
				want := digestOf(body) // the receiver's client computes it too
				if _, err := fmt.Fprintf(c, "%d\n", len(body)); err != nil {
					return err
				}
				if _, err := c.Write(body); err != nil {
					return err
				}
				got, err := in.ReadString('\n')
				if err == nil && strings.TrimSpace(got) != string(want) {
					err = fmt.Errorf("reference server answered %q", got)
				}
				return err
			})
		}
		return all
	}
}
