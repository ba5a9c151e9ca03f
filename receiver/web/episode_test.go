package web_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
)

// tarball packs an episode of a host whose texts are as given.
func (r *harness) tarball(row receiver.Entry, text string) []byte {
	r.t.Helper()
	dir := r.t.TempDir()
	meta := episode.Meta{
		SchemaVersion: 1, Episode: row.Episode, Host: row.Host, Profile: text, Start: r.now, End: r.now.Add(time.Minute),
		Rows: map[string]int{"proc": 3},
		Experiment: ident.Digest(
			strings.Repeat("a", 64),
		), Code: episode.Code{Version: text, Commit: row.Commit}, Verdict: episode.Accepted, Notes: []string{text},
	}
	for name, content := range map[string]string{
		"meta.json":    r.json(meta),
		"events.jsonl": `{"t_mono_ns":60000000000,"source":"orchestrate","event":"exit"}` + "\n",
		"labels.jsonl": r.json(episode.Label{Phase: text, Event: text}) + r.json(episode.Label{Mono: 30e9, Phase: "infected"}),
		"telemetry-proc.jsonl": `{"t_mono_ns":0,"rss_bytes":10}` + "\n" + `{"t_mono_ns":30000000000,"rss_bytes":30,"user_ms":100}` + "\n" +
			`{"t_mono_ns":60000000000,"rss_bytes":20,"user_ms":200}` + "\n",
		"done.marker": "",
	} {
		must(r.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	p, err := episode.NewPacker()
	must(r.t, err)
	var b bytes.Buffer
	_, err = p.Pack(r.t.Context(), &b, episode.Source{FS: disk.OS{}, Dir: dir, ID: row.Episode})
	must(r.t, err)
	return b.Bytes()
}

// The page of an episode shows its index entry, the content of its tarball and a plot, with
// the host's text escaped. It says what is missing.
func TestEpisode_PageAndPlot(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	whole, archived, torn := r.row("lab-01", 1, time.Hour), r.row("lab-01", 2, time.Minute), r.row("lab-02", 3, time.Second)
	archived.Archived = true
	r.write(local.IndexFile, r.json(whole)+r.json(archived)+r.json(torn))
	at := func(row receiver.Entry) string { return "/episodes/" + string(row.Host) + "/" + string(row.Episode) }
	r.write(at(whole)+".tar.zst", string(r.tarball(whole, evil+strings.Repeat("A", 5000))))
	r.write(at(torn)+".tar.zst", "torn")
	r.start().signIn()

	page := r.get(at(whole))
	for _, want := range []string{
		string(whole.Digest), "0.000 s", "30.000 s", "infected", "accepted", "&lt;script&gt;",
		`<img src="` + at(whole) + `.svg"`, at(whole) + ".svg?dark", "download",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s\n%s", want, page.body, r.log)
		}
	}
	if strings.Contains(page.body, "<script>") || strings.Contains(page.body, "<img src=x") || len(page.body) > 20_000 {
		t.Errorf("the page shows more than text, or %d bytes of it", len(page.body))
	}
	for _, path := range []string{at(whole) + ".svg", at(whole) + ".svg?dark"} {
		svg := r.get(path)
		if svg.status != http.StatusOK || svg.header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(svg.body, "<svg") {
			t.Fatalf("%s: %d %v %.200s", path, svg.status, svg.header, svg.body)
		}
		if p := svg.header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || !strings.Contains(p, "sandbox") {
			t.Errorf("%s: a plot that is opened by itself may act: %s", path, p)
		}
		if strings.Contains(svg.body, "<script") {
			t.Errorf("%s: text became an element", path)
		}
	}
	for path, want := range map[string]string{
		at(archived): "archived", at(torn): "read tarball", at(torn) + ".svg": "the page cannot be shown",
		"/episodes/lab-09/" + string(whole.Episode): "not on this receiver", "/episodes/lab-01/nonsense": "is not an episode",
	} {
		if a := r.get(path); !strings.Contains(a.body, want) {
			t.Errorf("%s: %d, want %q:\n%s", path, a.status, want, a.body)
		}
	}
}

// Many plots at once wait for each other; a closed request waits no more.
func TestEpisode_ManyPlots(t *testing.T) {
	r := newHarness(t)
	row := r.row("lab-01", 1, time.Hour)
	path := fmt.Sprintf("/episodes/%s/%s", row.Host, row.Episode)
	r.write(path+".tar.zst", string(r.tarball(row, "hash")))
	r.start().signIn()
	done := make(chan int)
	for range 12 {
		go func() { done <- r.get(path + ".svg").status }()
	}
	for range 12 {
		if status := <-done; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}
