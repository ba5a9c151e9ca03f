package web_test

import (
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/local"
)

// catalogue gives the dashboard a catalogue of the episodes that are stored now.
func (r *harness) catalogue(limits episode.Limits) {
	r.t.Helper()
	c, err := catalogue.Open(filepath.Join(r.dir, "catalogue.db"), "store", limits)
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	back := local.Open(local.Options{FS: disk.OS{}, Dir: r.dir})
	_, err = c.CatchUp(r.t.Context(), catalogue.Source{Index: back.Index, Episodes: back.Episodes, Log: slog.New(slog.DiscardHandler)})
	must(r.t, err)
	r.cat = c
}

// With the catalogue, the page shows and filters what was recorded, links all results as one
// archive, and lists what is refused with the reason: a damaged tarball, and a bomb.
func TestEpisodes_ByContent(t *testing.T) {
	r := newHarness(t)
	r.alerts()
	index := ""
	at := func(row receiver.Entry) string { return "/episodes/" + string(row.Host) + "/" + string(row.Episode) }
	put := func(i int, tarball func(receiver.Entry) string) receiver.Entry {
		row := r.row("lab-01", i, time.Duration(10-i)*time.Hour)
		index += r.json(row)
		r.write(at(row)+".tar.zst", tarball(row))
		return row
	}
	profile := func(name string) func(receiver.Entry) string {
		return func(row receiver.Entry) string { return string(r.tarball(row, name)) }
	}
	hash, churn := put(1, profile("hash")), put(2, profile("churn"))
	torn := put(3, func(receiver.Entry) string { return "torn" })
	bomb := put(4, profile(strings.Repeat("b", 1<<10)))
	r.write(local.IndexFile, index)

	r.catalogue(episode.Limits{Bytes: 2 << 10, Files: 10})
	r.start().signIn()

	listed := func(path string) (ids []string) {
		for _, m := range regexp.MustCompile(`<tr><th scope="row"><a href="/episodes/lab-01/(\w+)"`).FindAllStringSubmatch(r.get(path).body, -1) {
			ids = append(ids, m[1])
		}
		return ids
	}
	for path, want := range map[string][]receiver.Entry{
		"":                               {bomb, torn, churn, hash},
		"?profile=hash":                  {hash},
		"?profile=has":                   {},
		"?verdict=accepted":              {churn, hash},
		"?verdict=accepted&class=benign": {},
		"?state=refused":                 {bomb, torn},
		"?until=2026-03-01T05:00":        {churn, hash},
		"?from=2026-03-01T05:00&until=2026-03-01T06:00": {torn},
		"?q=" + string(churn.Episode):                   {churn},
		"?profile=churn&q=cccccc":                       {churn},
		"?state=refused&q=cccccc&host=lab-01":           {bomb, torn},
	} {
		got := listed("/episodes" + path)
		ids := []string{}
		for _, row := range want {
			ids = append(ids, string(row.Episode))
		}
		if strings.Join(got, " ") != strings.Join(ids, " ") {
			t.Errorf("%s: %v, want %v", path, got, ids)
		}
	}
	page := r.get("/episodes?host=lab-01&profile=hash").body
	if !strings.Contains(page, `<td data-is="Profile">hash`) ||
		!strings.Contains(page, `href="/episodes.tar?host=lab-01&amp;order=newest&amp;profile=hash"`) {
		t.Errorf("the page lacks the profile, or the link to the archive:\n%s", page)
	}
	if a := r.get("/episodes.tar?profile=hash"); a.body != "tar of profile=hash" {
		t.Errorf("the archive: %d %s", a.status, a.body)
	}
	for row, why := range map[receiver.Entry]string{bomb: "larger than the limit of 2048", torn: "read tarball"} {
		for _, path := range []string{"/episodes?state=refused", at(row)} {
			if a := r.get(path); !strings.Contains(a.body, why) || !strings.Contains(a.body, "refused") {
				t.Errorf("%s does not say %q:\n%s", path, why, a.body)
			}
		}
	}
	r.cat = nil
	if got := listed("/episodes"); len(got) != 4 {
		t.Errorf("without the catalogue: %v", got)
	}
	if a := r.get("/episodes?profile=hash"); !strings.Contains(a.body, "the catalogue is not open") {
		t.Errorf("a filter without the catalogue:\n%s", a.body)
	}
}
