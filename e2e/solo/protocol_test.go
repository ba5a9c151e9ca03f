//go:build e2e

package solo

import (
	"crypto/ecdsa"
	"os"
	"os/exec"
	"strings"
	"testing"

	"cis490/internal/pki"
)

// TestProtocol_TheExamplesWork runs the lab host's commands of docs/protocol.md with a real
// curl. An upload that is refused by its header sends no body.
func TestProtocol_TheExamplesWork(t *testing.T) {
	for _, tool := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	r := newHarness(t, "")
	r.start()
	h := r.enroll("lab-01")
	key, ok := h.pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no key")
	}
	pem, err := pki.EncodeKey(key)
	must(t, err)
	r.write("lab-host.pem", string(pki.EncodeCerts(h.pair.Leaf))+string(pem))
	r.write("ca.crt", string(pki.EncodeCerts(r.ca.Cert)))
	r.write("bearer", "bearer-lab-01")
	r.write("01ARZ3NDEKTSV4RRFFQ69G5FAV.tar.zst", strings.Repeat("episode", 10_000))

	doc, err := os.ReadFile("../../docs/protocol.md")
	must(t, err)
	sh := func(script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = r.dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s\n%s", err, script, out)
		}
		return string(out)
	}
	var script strings.Builder
	for i, block := range strings.Split(string(doc), "```") {
		if block, ok := strings.CutPrefix(block, "sh on=lab-01 as=root\n"); ok && i%2 == 1 {
			script.WriteString(block + "\n")
		}
	}
	here := strings.NewReplacer("https://collector.lab:8443", "https://"+r.addr, "/etc/cis490/certs", r.dir,
		"/var/lib/cis490/data/shipped", r.dir, "curl ", "curl -sS ")
	got := sh(here.Replace(script.String()))
	for _, want := range []string{
		`"stored_at"`, `"policy"`, `"stored":["01ARZ3NDEKTSV4RRFFQ69G5FAV"]`, `"status":"ready"`, `"accepted":true`, "no release is offered",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no answer has %s:\n%s\n%s", want, script.String(), got)
		}
	}

	put, _, _ := strings.Cut(script.String(), "curl $mtls -H")
	put = here.Replace(put) // a second time
	put = strings.Replace(put, "curl -sS", "curl -sS -o refused -w '%{http_code} %{size_upload}'", 1)
	refused := strings.Replace(put, "id=$(basename $file .tar.zst)", "id=01ARZ3NDEKTSV4RRFFQ69G5FAW", 1)
	refused = strings.Replace(refused, "cis490 version --json | jq -r .commit", "printf %040d 7", 1)
	for script, want := range map[string]string{put: "200 ", refused: "412 "} {
		script = strings.Replace(script, "-H 'Expect: 100-continue'", "", 1)
		if got := sh(script); !strings.HasPrefix(got, want) {
			t.Errorf("without Expect: %q, want %s", got, want)
		}
	}
	if got := strings.TrimSpace(sh(refused)); got != "412 0" {
		b, _ := os.ReadFile(r.path("refused"))
		t.Errorf("a refused upload: %q, want 412 with 0 bytes sent: %s", got, b)
	}
	if n := len(r.rows()); n != 1 {
		t.Errorf("%d rows", n)
	}
}
