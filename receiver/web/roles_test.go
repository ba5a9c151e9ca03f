package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

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
