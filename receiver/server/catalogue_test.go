package server_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/receiver"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/catalogue"
	"cis490/receiver/local"
	"cis490/receiver/server"
)

// An episode that was acknowledged is in the catalogue soon, whatever its content is, and can
// be downloaded; the catalogue is rebuilt on request.
func TestCatalogue_ListsAndDownloads(t *testing.T) { onEach(t, catalogueListsAndDownloads) }

func catalogueListsAndDownloads(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) { r.catalogue = filepath.Join(r.dir, "catalogue.db") })
	a := r.enrol("lab-a")
	for _, id := range []string{string(ep1), string(ep2), string(ep3)} {
		if status, kind, _ := a.do(a.request(ident.EpisodeID(id), "content of "+id)); status != http.StatusCreated {
			t.Fatal(status, kind)
		}
	}
	get := func(path string, header ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(path), nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer s3cret")
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		status, kind, body := a.do(req)
		return status, string(kind) + body
	}
	listed := func() bool {
		_, body := get(wire.EpisodesPath + "?host=lab-a")
		return strings.Count(body, `"state":"refused"`) == 3
	}
	r.eventually("all are listed", listed)
	if _, body := get(wire.EpisodesPath+"?order=newest&limit=2", "Accept", wire.ContentTypeRows); strings.Count(body, "\n") != 3 ||
		!strings.HasPrefix(body, `{"host":"lab-a","episode":"`+string(ep3)) {
		t.Errorf("rows %s", body)
	}
	for query, want := range map[string]string{
		"?host=lab-b": `"episodes":[]`, "?limit=1": `"next":"`, "?hots=lab-a": "malformed", "?limit=0": "malformed", "?cursor=x": "malformed",
		"?host=lab-a&host=lab-b": "malformed", "?from=yesterday": "malformed", "?state=ok": `"episodes":[]`,
		"?sha256=" + string(digestOf([]byte("content of "+string(ep2)))): string(ep2),
	} {
		if status, body := get(wire.EpisodesPath + query); !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", query, status, body, want)
		}
	}
	if status, body := get(wire.EpisodePath("lab-a", ep1)); status != http.StatusOK || body != "content of "+string(ep1) {
		t.Errorf("download: %d %s", status, body)
	}
	if status, body := get(wire.EpisodePath("lab-a", ep1), "Range", "bytes=0-6"); status != http.StatusPartialContent || body != "content" {
		t.Errorf("range: %d %s", status, body)
	}

	socket := local.AdminSocket(r.config.DataDir)
	r.eventually("root is answered", func() bool {
		p, err := server.AskEpisodes(t.Context(), socket, catalogue.Query{Host: "lab-a", Limit: 2})
		return err == nil && len(p.Rows) == 2 && p.Next != ""
	})
	must(t, server.AskRebuild(t.Context(), socket))
	r.eventually("rebuilding the catalogue", func() bool {
		return bytes.Contains([]byte(r.log.String()), []byte("rebuilding the catalogue")) && listed()
	})
	state, err := server.AskCatalogue(t.Context(), socket)
	if err != nil || state.Episodes != 3 || !state.Reached.Equal(state.Last) {
		t.Errorf("%+v: %v", state, err)
	}
}

// Each role gets an answer from its own routes, and from every other one what a stranger gets.
func TestTokens_ByRole(t *testing.T) { onEach(t, tokensByRole) }

func tokensByRole(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) { r.catalogue = filepath.Join(r.dir, "catalogue.db") })
	a := r.enrol("lab-a")
	if status, kind, _ := a.do(a.request(ep1, "content")); status != http.StatusCreated {
		t.Fatal(status, kind)
	}
	needs := map[string]receiver.Role{
		"GET " + wire.EpisodesPath: receiver.ReadData, "GET " + wire.EpisodesPath + "/{host}/{file}": receiver.ReadData,
		"GET " + wire.EpisodesPath + ".tar": receiver.ReadData,
		"GET " + wire.AlertsPath:            receiver.Read, "GET " + wire.FleetPath: receiver.Read, "GET " + wire.MetricsPath: receiver.Read,
		"GET " + wire.HostHealthPath: receiver.Read, "GET " + wire.HostHealthPath + "/{host}": receiver.Read,
		"GET /{$}": receiver.Read, "GET /hosts/{host}": receiver.Read, "GET /episodes": receiver.Read, "GET /episodes.tar": receiver.Read,
		"GET /episodes/{host}/{file}": receiver.Read,
		"GET /releases":               receiver.Read, "GET /alerts": receiver.Read, "GET /events": receiver.Read,
		"POST " + wire.AlertsPath + "/{host}/{symptom}/silence": receiver.Operate,
	}
	ask := func(pattern, bearer string) (int, string) {
		method, path, _ := strings.Cut(pattern, " ")
		fill := strings.NewReplacer("{host}", "lab-a", "{file}", string(ep1)+wire.TarballSuffix, "{commit}", string(own), "{$}", "",
			"{symptom}", "silent", "{digest}", string(digestOf(nil)))
		req, err := http.NewRequestWithContext(t.Context(), method, r.url(fill.Replace(path)), strings.NewReader("{}"))
		must(t, err)
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		cl := r.clientOf(nil)
		cl.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res, err := cl.Do(req)
		must(t, err)
		defer func() { _ = res.Body.Close() }()
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			return res.StatusCode, "" // it does not end
		}
		b, err := io.ReadAll(res.Body)
		must(t, err)
		return res.StatusCode, string(b)
	}
	tokens := func(roles ...receiver.Role) {
		all := []receiver.Token{}
		for _, role := range roles {
			all = append(all, receiver.Token{Name: "of-" + string(role), Role: role, Digest: receiver.DigestOf("cis490-" + string(role))})
		}
		b, err := json.Marshal(all)
		must(t, err)
		must(t, os.WriteFile(local.TokensPath(r.config), b, 0o600))
	}
	tokens(append(receiver.Roles(), "owner")...)
	r.eventually("it is listed", func() bool {
		status, body := ask("GET "+wire.EpisodesPath, "cis490-data")
		return status == http.StatusOK && strings.Contains(body, string(ep1))
	})
	routes := r.server.Routes()
	for _, pattern := range routes {
		if pattern == "POST /sign-in" {
			continue // limits tries, and has no role
		}
		anyone, _ := ask(pattern, "")
		for _, role := range append(receiver.Roles(), "owner") { // an unknown role may do nothing
			status, body := ask(pattern, "cis490-"+string(role))
			may := needs[pattern] != "" && role.May(needs[pattern])
			if let := status != http.StatusUnauthorized && status != http.StatusSeeOther; may && !let || !may && status != anyone {
				t.Errorf("%s with the role %s: %d, without a token %d: %s", pattern, role, status, anyone, body)
			}
		}
	}
	if len(routes) < 20 {
		t.Errorf("only %d routes", len(routes))
	}
	const named = "needs a token with the role read; that of of-data has data"
	if _, body := ask("GET "+wire.FleetPath, "cis490-data"); !strings.Contains(body, named) {
		t.Errorf("the refusal does not name the roles: %s", body)
	}
	_, body := ask("GET "+wire.EpisodesPath+".tar", "cis490-data")
	archive := tar.NewReader(strings.NewReader(body))
	h, err := archive.Next()
	must(t, err)
	content, err := io.ReadAll(archive)
	must(t, err)
	if _, end := archive.Next(); h.Name != "lab-a/"+string(ep1)+wire.TarballSuffix || string(content) != "content" || !errors.Is(end, io.EOF) {
		t.Errorf("%s: %s, then %v", h.Name, content, end)
	}
	tokens()
	if status, _ := ask("GET "+wire.EpisodesPath, "cis490-data"); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", status)
	}
}

// A download of everything ends when its token is revoked, and is not taken for whole.
func TestTokens_RevokedDuringADownload(t *testing.T) {
	r := newHarness(t, func(r *harness) {
		r.catalogue, r.config.Limits.EpisodeSize = filepath.Join(r.dir, "catalogue.db"), 16<<20 // more than sockets buffer
	})
	a := r.enrol("lab-a")
	for _, id := range []ident.EpisodeID{ep1, ep2, ep3} {
		if status, kind, _ := a.do(a.request(id, strings.Repeat("x", 16<<20))); status != http.StatusCreated {
			t.Fatal(status, kind)
		}
	}
	b, err := json.Marshal([]receiver.Token{{Name: "ada", Role: receiver.ReadData, Digest: receiver.DigestOf("hers")}})
	must(t, err)
	must(t, os.WriteFile(local.TokensPath(r.config), b, 0o600))
	cl := r.clientOf(nil)
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(path), nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer hers")
		res, err := cl.Do(req)
		must(t, err)
		return res
	}
	r.eventually("all are listed", func() bool {
		res := get(wire.EpisodesPath)
		body, err := io.ReadAll(res.Body)
		must(t, errors.Join(err, res.Body.Close()))
		return strings.Count(string(body), `"state":"refused"`) == 3
	})
	res := get(wire.EpisodesPath + ".tar")
	must(t, os.WriteFile(local.TokensPath(r.config), []byte("[]"), 0o600))
	n, err := io.Copy(io.Discard, res.Body)
	if err = errors.Join(err, res.Body.Close()); err == nil {
		t.Errorf("%d bytes, and whole", n)
	}
	r.eventually("it is logged", func() bool { return strings.Contains(r.log.String(), "its token was revoked") })
}

// A file of an older version has tokens without a role, which read data.
func TestTokens_OfAnOlderVersion(t *testing.T) {
	r := newHarness(t)
	path := filepath.Join(filepath.Dir(local.TokensPath(r.config)), "data-tokens.json")
	must(t, os.WriteFile(path, []byte(`[{"name":"ada","sha256":"`+string(receiver.DigestOf("x"))+`"}]`), 0o600))
	all, err := local.ReadTokens(disk.OS{}, r.config)
	if err != nil || len(all) != 1 || all[0].Role != receiver.ReadData {
		t.Errorf("%+v: %v", all, err)
	}
}
