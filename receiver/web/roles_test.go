package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cis490/receiver"
)

// TestRoles_OfASession: a token that reads data opens no page, one that reads sees every page
// and changes nothing, one that operates is named in what it changes. A revoked token ends
// its sessions at once.
func TestRoles_OfASession(t *testing.T) {
	r := twoCauses(t)
	r.post("/sign-out", url.Values{"code": {r.code()}})
	file := "["
	for _, role := range receiver.Roles() {
		file += fmt.Sprintf(`{"name":"of-%[1]s","role":"%[1]s","sha256":"%[2]s"},`, role, receiver.DigestOf("secret-"+string(role)))
	}
	r.write("access-tokens.json", strings.TrimSuffix(file, ",")+"]")
	in := func(role receiver.Role) int {
		return r.post("/sign-in", url.Values{"token": {"secret-" + string(role)}}).status
	}
	silence := url.Values{"do": {"silence"}, "cause": {"nothing"}}

	if status := in(receiver.ReadData); status != http.StatusForbidden || r.get("/").status != http.StatusSeeOther {
		t.Errorf("a token for data: %d", status)
	}
	if status := in(receiver.Read); status != http.StatusSeeOther {
		t.Fatalf("a token that reads: %d", status)
	}
	page := r.get("/").body
	if !strings.Contains(page, "lab-01") || strings.Contains(page, `action="/act"`) {
		t.Error("the page of a reader has no hosts, or forms that it may not send")
	}
	if a := r.act(silence); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "role operate; that of of-read has read") {
		t.Errorf("a reader silences: %d %s", a.status, a.body)
	}
	if status := in(receiver.Operate); status != http.StatusSeeOther {
		t.Fatalf("a token that operates: %d", status)
	}
	if a := r.act(silence); a.status != http.StatusSeeOther || !strings.Contains(r.get("/").body, "by of-operate on the dashboard") {
		t.Errorf("an operator silences: %d %s", a.status, a.body)
	}
	if !strings.Contains(r.log.String(), "by=of-operate") {
		t.Errorf("the log does not name who silenced: %s", r.log)
	}
	r.write("access-tokens.json", "[]")
	if a := r.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("after the token was revoked: %d", a.status)
	}
}

// TestEvents_EndWithTheToken: a stream ends when its token is revoked, however it was opened.
func TestEvents_EndWithTheToken(t *testing.T) {
	r := twoCauses(t)
	r.write("access-tokens.json", fmt.Sprintf(`[{"name":"ada","role":"read","sha256":"%s"}]`, receiver.DigestOf("hers")))
	r.post("/sign-out", url.Values{"code": {r.code()}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL+"/events", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer hers")
	res, err := r.client.Do(req)
	must(t, err)
	r.write("access-tokens.json", "[]")
	timer := time.AfterFunc(20*time.Second, r.server.CloseClientConnections)
	defer timer.Stop()
	if b, err := io.ReadAll(res.Body); err != nil || !strings.HasPrefix(string(b), "event: change") {
		t.Errorf("%q: %v", b, err)
	}
	must(t, res.Body.Close())
}
