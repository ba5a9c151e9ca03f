package server_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// A data token reads the data, and no other route answers it as more than a stranger.
func TestDataToken_ReadsTheDataAlone(t *testing.T) { onEach(t, dataTokenReadsTheDataAlone) }

func dataTokenReadsTheDataAlone(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) { r.catalogue = filepath.Join(r.dir, "catalogue.db") })
	a := r.enrol("lab-a")
	if status, kind, _ := a.do(a.request(ep1, "content")); status != http.StatusCreated {
		t.Fatal(status, kind)
	}
	data := map[string]bool{
		"GET " + wire.EpisodesPath: true, "GET " + wire.EpisodesPath + "/{host}/{file}": true, "GET " + wire.EpisodesPath + ".tar": true,
	}
	const token = "cis490-data-x"
	ask := func(pattern, bearer string) (int, string) {
		method, path, _ := strings.Cut(pattern, " ")
		fill := strings.NewReplacer("{host}", "lab-a", "{file}", string(ep1)+wire.TarballSuffix, "{commit}", string(own), "{$}", "",
			"{symptom}", "silent", "{digest}", string(digestOf(nil)))
		req, err := http.NewRequestWithContext(t.Context(), method, r.url(fill.Replace(path)), strings.NewReader("{}"))
		must(t, err)
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		res, err := r.clientOf(nil).Do(req)
		must(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		must(t, err)
		return res.StatusCode, string(b)
	}
	if status, _ := ask("GET "+wire.EpisodesPath, token); status != http.StatusUnauthorized {
		t.Errorf("an unknown token: %d", status)
	}
	must(t, os.WriteFile(local.DataTokensPath(r.config), []byte(`[{"name":"ada","sha256":"`+string(digestOf([]byte(token)))+`"}]`), 0o600))
	r.eventually("it is listed", func() bool {
		status, body := ask("GET "+wire.EpisodesPath, token)
		return status == http.StatusOK && strings.Contains(body, string(ep1))
	})
	routes := r.server.Routes()
	for _, pattern := range routes {
		status, body := ask(pattern, token)
		if data[pattern] {
			if status != http.StatusOK {
				t.Errorf("%s: %d %s", pattern, status, body)
			}
			continue
		}
		if anyone, _ := ask(pattern, ""); status != anyone {
			t.Errorf("%s: %d with the data token, %d without", pattern, status, anyone)
		}
	}
	if len(routes) < 20 {
		t.Errorf("only %d routes", len(routes))
	}
	_, body := ask("GET "+wire.EpisodesPath+".tar", token)
	archive := tar.NewReader(strings.NewReader(body))
	h, err := archive.Next()
	must(t, err)
	content, err := io.ReadAll(archive)
	must(t, err)
	if _, end := archive.Next(); h.Name != "lab-a/"+string(ep1)+wire.TarballSuffix || string(content) != "content" || !errors.Is(end, io.EOF) {
		t.Errorf("%s: %s, then %v", h.Name, content, end)
	}
	must(t, os.WriteFile(local.DataTokensPath(r.config), []byte(`[]`), 0o600))
	if status, _ := ask("GET "+wire.EpisodesPath, token); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", status)
	}
}
