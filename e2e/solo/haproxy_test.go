//go:build e2e

package solo

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestProxy_BehindHAProxy: a real HAProxy passes TCP through. serve logs the clients'
// addresses, and accepts uploads until HAProxy has noticed that it ends.
func TestProxy_BehindHAProxy(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("needs haproxy")
	}
	r := newHarness(t, "[balancer]\nfrom = [\"127.0.0.1\"]\ndrain = \"10s\"")
	r.logs = "info"
	r.start()
	serve := r.addr
	doc, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, text, _ := strings.Cut(string(doc), "```haproxy\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("docs/operations.md has no haproxy.cfg")
	}
	stats := r.path("haproxy.sock")
	r.write("haproxy.cfg", "global\n    stats socket "+stats+" mode 600\n"+
		strings.NewReplacer("bind :8443", "bind 127.0.0.1:18997", "10.0.0.11:8443", serve).Replace(text))
	haproxy := exec.Command("haproxy", "-db", "-f", r.path("haproxy.cfg"))
	haproxy.Stdout, haproxy.Stderr = r.log, r.log
	haproxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, haproxy.Start())
	t.Cleanup(func() { _ = haproxy.Process.Kill(); _ = haproxy.Wait() })
	r.addr = "127.0.0.1:18997"
	h := r.enroll("lab-a")
	h.client.Transport.(*http.Transport).DialContext = (&net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)},
	}).DialContext
	body := []byte("body")
	put := func() (int, error) { return h.put(newID(), body, digestOf(body)) }
	r.waitFor("an upload through HAProxy is stored", func() bool { status, err := put(); return err == nil && status == http.StatusCreated })
	if !strings.Contains(r.log.String(), "from=127.0.0.77") {
		t.Errorf("the log has no client's address: %s", r.log)
	}
	if _, err := r.clientOf(nil, false).Get("https://" + serve + "/healthz"); err == nil {
		t.Error("a connection from HAProxy's address was accepted without a header")
	}

	must(t, syscall.Kill(r.pid(), syscall.SIGTERM))
	began := time.Now()
	r.waitFor("HAProxy notices that serve ends", func() bool {
		if status, err := put(); err != nil || status != http.StatusCreated { // on its open connection
			t.Fatalf("an upload meanwhile: %d, %v", status, err)
		}
		return strings.Contains(ask(t, stats, "show stat\n"), "DOWN")
	})
	t.Logf("HAProxy noticed after %s", time.Since(began).Round(time.Millisecond))
	<-r.done
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Error(r.log)
	}
}
