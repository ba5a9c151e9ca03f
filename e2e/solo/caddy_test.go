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

// TestProxy_BehindCaddy: serve listens on a Unix socket, a real Caddy speaks TLS
// and passes the certificate that the client showed; identity is serve's to judge.
func TestProxy_BehindCaddy(t *testing.T) {
	if _, err := exec.LookPath("caddy"); err != nil {
		t.Skip("needs caddy")
	}
	r := newRig(t, "")
	socket := r.path("http.sock")
	conf, err := os.ReadFile(r.path("receiver.toml"))
	must(t, err)
	r.write("receiver.toml", string(conf)+"[tls]\nmode = \"proxy\"\nsocket = \""+socket+"\"\n")
	r.start()
	cert, key := r.serverPair()
	r.write("caddy.crt", cert)
	r.write("caddy.key", key)
	// The docs' own Caddyfile, at another place and with a certificate that is here.
	doc, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, text, _ := strings.Cut(string(doc), "```caddyfile\n{")
	text, _, ok := strings.Cut(text, "\n```")
	if !ok {
		t.Fatal("docs/operations.md has no Caddyfile")
	}
	r.write("Caddyfile", "{\n\tadmin off"+strings.NewReplacer("auto_https disable_redirects", "auto_https off", "https://collector.lab:8443", "https://localhost:18998",
		"tls internal {", "tls "+r.path("caddy.crt")+" "+r.path("caddy.key")+" {\n\t\tprotocols tls1.3",
		"/var/lib/cis490-authority/ca.crt", r.path("caddy.crt"), "/run/cis490-receiver/http.sock", socket).Replace(text)+"\n")
	caddy := exec.Command("caddy", "run", "--config", r.path("Caddyfile"), "--adapter", "caddyfile")
	caddy.Env = append(os.Environ(), "HOME="+r.dir, "XDG_DATA_HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir)
	caddy.Stdout, caddy.Stderr = r.log, r.log
	caddy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, caddy.Start())
	t.Cleanup(func() { _ = caddy.Process.Kill(); _ = caddy.Wait() })
	r.addr = "localhost:18998" // a name: Caddy wants SNI and Host to agree
	anyone := r.clientOf(nil, true)
	r.eventually("Caddy passes requests on", func() bool {
		res, err := anyone.Get("https://" + r.addr + "/readyz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})

	a, b := r.enrol("lab-a"), r.enrol("lab-b")
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
	// A header of the client's own does not reach serve beside Caddy's.
	req, err := http.NewRequest(http.MethodPost, "https://"+r.addr+"/v1/ping", http.NoBody)
	must(t, err)
	req.Header.Set("X-Client-Cert", "garbage")
	req.Header.Set("Authorization", "Bearer bearer-lab-a")
	res, err := anyone.Do(req)
	must(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a client's own header: %d", res.StatusCode)
	}
	if n := len(r.rowsSettled(2)); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// rowsSettled is rows, once there are so many of them.
func (r *rig) rowsSettled(n int) map[receiver.Key][]receiver.Entry {
	r.t.Helper()
	r.eventually("the rows are settled", func() bool { return len(r.rows()) >= n })
	return r.rows()
}
