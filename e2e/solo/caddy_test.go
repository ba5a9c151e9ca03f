//go:build e2e

package solo

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cis490/receiver"
)

// TestProxy_BehindCaddy: a real Caddy terminates TLS and passes the client's certificate to
// serve over a Unix socket. serve verifies the identity.
func TestProxy_BehindCaddy(t *testing.T) {
	if _, err := exec.LookPath("caddy"); err != nil {
		t.Skip("needs caddy")
	}
	r := newHarness(t, "")
	socket := r.path("http.sock")
	conf, err := os.ReadFile(r.path("receiver.toml"))
	must(t, err)
	r.write("receiver.toml", string(conf)+"[tls]\nmode = \"proxy\"\nsocket = \""+socket+"\"\n")
	r.start()
	cert, key := r.serverPair()
	r.write("caddy.crt", cert)
	r.write("caddy.key", key)
	// The Caddyfile of the docs, with other paths and a certificate of this test.
	doc, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, text, _ := strings.Cut(string(doc), "```caddyfile\n{")
	text, _, ok := strings.Cut(text, "\n```")
	if !ok {
		t.Fatal("docs/operations.md has no Caddyfile")
	}
	r.write("Caddyfile", "{\n\tadmin off"+strings.NewReplacer("auto_https disable_redirects", "auto_https off",
		"https://collector.lab:8443", "https://localhost:18998",
		"tls internal {", "tls "+r.path("caddy.crt")+" "+r.path("caddy.key")+" {\n\t\tprotocols tls1.3",
		"/var/lib/cis490-authority/ca.crt", r.path("caddy.crt"), "/run/cis490-receiver/http.sock", socket).Replace(text)+"\n")
	caddy := exec.Command("caddy", "run", "--config", r.path("Caddyfile"), "--adapter", "caddyfile")
	caddy.Env = append(os.Environ(), "HOME="+r.dir, "XDG_DATA_HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir)
	caddy.Stdout, caddy.Stderr = r.log, r.log
	caddy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, caddy.Start())
	t.Cleanup(func() { _ = caddy.Process.Kill(); _ = caddy.Wait() })
	r.addr = "localhost:18998" // a name, because Caddy requires SNI and Host to match
	anyone := r.clientOf(nil, true)
	r.waitFor("Caddy passes requests on", func() bool {
		res, err := anyone.Get("https://" + r.addr + "/readyz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})

	a, b := r.enroll("lab-a"), r.enroll("lab-b")
	body := []byte("body")
	put := func(h *host, want int, what string) {
		t.Helper()
		if status, err := h.put("01ARZ3NDEKTSV4RRFFQ69G5FA1", body, digestOf(body)); err != nil || status != want {
			t.Errorf("%s: %d, %v, want %d", what, status, err, want)
		}
	}
	put(&host{r: r, name: "lab-a", client: anyone}, http.StatusUnauthorized, "without a certificate")
	put(&host{r: r, name: "lab-b", client: a.client}, http.StatusForbidden, "with another host's certificate")
	put(a, http.StatusCreated, "with its own")
	put(a, http.StatusOK, "again")
	b.client = r.clientOf(b.pair, true)
	put(b, http.StatusCreated, "over HTTP/2")
	// Caddy drops this header of a client.
	req, err := http.NewRequest(http.MethodPost, "https://"+r.addr+"/v1/ping", http.NoBody)
	must(t, err)
	req.Header.Set("X-Client-Cert", "garbage")
	req.Header.Set("Authorization", "Bearer bearer-lab-a")
	res, err := anyone.Do(req)
	must(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("X-Client-Cert of a client: status %d, want 401", res.StatusCode)
	}
	if n := len(r.waitRows(2)); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// waitRows waits until the index has n episodes, and returns its rows.
func (r *harness) waitRows(n int) map[receiver.Key][]receiver.Entry {
	r.t.Helper()
	r.waitFor("all rows are written", func() bool { return len(r.rows()) >= n })
	return r.rows()
}
