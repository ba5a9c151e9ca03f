package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver"
	"cis490/receiver/cluster"
)

// publish publishes a release that no host accepts.
func (r *harness) publish(seq uint64, version string) {
	r.t.Helper()
	encoded, err := manifest.Manifest{
		V: 1, Product: manifest.Product, Seq: seq, Version: version, Commit: ident.Commit(strings.Repeat("d", 40)),
		Artifacts: []manifest.Binary{{OS: "linux", Arch: "amd64", Blob: manifest.Blob{Digest: ident.Digest(strings.Repeat("e", 64)), Size: 1}}},
	}.Encode()
	must(r.t, err)
	r.write(fmt.Sprintf("releases/signed/%d.json", seq), string(encoded))
	r.write(fmt.Sprintf("releases/signed/%d.json.minisig", seq), "signature")
	must(r.t, manifest.Give(disk.OS{}, filepath.Join(r.dir, "releases"), func() time.Time { return r.now },
		manifest.Order{Verb: manifest.OrderPublish, Seq: seq}))
}

// TestReleases_OrdersByRole: only a token with the role release orders something, with a form
// of its own session, and only what the release's stage allows. The order and the log have
// the token's name. The operator token has no such right.
func TestReleases_OrdersByRole(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.start().signIn()
	r.publish(7, "v2")
	r.publish(8, "v3")
	commit := ident.Commit(strings.Repeat("d", 40))
	r.write("releases/rollout.json", r.json(manifest.Rollout{V: 1, Releases: []*manifest.Progress{
		{Seq: 8, Version: "v3", Commit: commit, Stage: manifest.StageWithdrawn},
		{Seq: 7, Version: "v2", Commit: commit, Stage: manifest.StageCanary},
	}}))
	last := func() manifest.Order {
		t.Helper()
		all, err := manifest.Orders(disk.OS{}, filepath.Join(r.dir, "releases"))
		must(t, err)
		return all[len(all)-1]
	}
	order := func(seq, verb, code string) int {
		return r.post("/releases", url.Values{"seq": {seq}, "do": {verb}, "code": {code}}).status
	}
	published := last()
	form := strings.Contains(r.get("/releases").body, `action="/releases"`)
	if status := order("7", "promote", r.code()); status != http.StatusUnauthorized || form {
		t.Errorf("the operator token promotes: %d", status)
	}
	r.write("access-tokens.json", fmt.Sprintf(`[{"name":"ada","role":"release","sha256":"%s"}]`, receiver.DigestOf("hers")))
	foreign := r.code()
	r.post("/sign-out", url.Values{"code": {foreign}})
	r.post("/sign-in", url.Values{"token": {"hers"}})
	page := r.get("/releases").body
	if strings.Count(page, `name="do" value="promote"`) != 1 || strings.Count(page, `name="do" value="withdraw"`) != 1 {
		t.Errorf("the page has other orders than two, for v2:\n%s", page)
	}
	code := r.code()
	for _, c := range []struct {
		seq, verb, code string
		status          int
	}{
		{"7", "promote", foreign, http.StatusUnauthorized},
		{"7", "promote", "", http.StatusUnauthorized},
		{"8", "promote", code, http.StatusNotFound},
		{"8", "withdraw", code, http.StatusNotFound},
		{"9", "promote", code, http.StatusNotFound},
		{"7", "publish", code, http.StatusNotFound},
		{"7", "", code, http.StatusNotFound},
	} {
		if status := order(c.seq, c.verb, c.code); status != c.status {
			t.Errorf("%s %s: %d, want %d", c.verb, c.seq, status, c.status)
		}
	}
	if got := last(); got != published {
		t.Errorf("an order was given: %+v", got)
	}
	for _, verb := range []string{"promote", "withdraw"} {
		if status := order("7", verb, code); status != http.StatusSeeOther {
			t.Errorf("%s: %d %s", verb, status, r.log)
		}
		if got := last(); got.Seq != 7 || string(got.Verb) != verb || got.By != "ada" || got.Version != "v2" || got.Force {
			t.Errorf("%s: ordered %+v", verb, got)
		}
	}
	if log := r.log.String(); strings.Count(log, "release ordered") != 2 || !strings.Contains(log, "by=ada") {
		t.Errorf("the log does not name who ordered: %s", log)
	}
}

// TestReleases_Copies: a receiver with copies takes no orders, and names the one that does.
func TestReleases_Copies(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	r.copies = true
	r.members = []cluster.Member{{Name: "rx-2 0b"}, {Name: "rx-1 0a", Does: []receiver.Work{receiver.Publishing}}}
	r.write("access-tokens.json", fmt.Sprintf(`[{"name":"ada","role":"release","sha256":"%s"}]`, receiver.DigestOf("hers")))
	r.start()
	r.post("/sign-in", url.Values{"token": {"hers"}})
	r.publish(7, "v2")
	const command = "sudo cis490 release promote --seq 7"
	if page := r.get("/releases").body; strings.Contains(page, `action="/releases"`) || !strings.Contains(page, "On rx-1<") ||
		!strings.Contains(page, command) {
		t.Errorf("the page: %s", page)
	}
	a := r.post("/releases", url.Values{"seq": {"7"}, "do": {"promote"}, "code": {r.code()}})
	if a.status != http.StatusNotFound || !strings.Contains(a.body, "run on rx-1: "+command) {
		t.Errorf("an order: %d %s", a.status, a.body)
	}
	if all, err := manifest.Orders(disk.OS{}, filepath.Join(r.dir, "releases")); err != nil || len(all) != 1 {
		t.Errorf("orders: %v, %v", all, err)
	}
	a = r.post("/act", url.Values{"do": {"token"}, "name": {"lab-77"}, "code": {r.code()}})
	if !strings.Contains(a.body, "Only root on rx-1 ") {
		t.Errorf("a new host: %s", a.body)
	}
}
