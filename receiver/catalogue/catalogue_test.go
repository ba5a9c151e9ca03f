package catalogue_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/local"
)

const commit = ident.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

// fixture is a receiver's storage with a catalogue beside it.
type fixture struct {
	t     *testing.T
	back  receiver.Backend
	store receiver.Store
	path  string
	n     int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	f := &fixture{t: t, path: filepath.Join(dir, "catalogue.db")}
	f.back = local.Open(local.Options{FS: disk.OS{}, Dir: filepath.Join(dir, "data"), Now: time.Now, Log: log})
	var err error
	if f.store, err = f.back.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Close() })
	return f
}

func (f *fixture) source() catalogue.Source {
	return catalogue.Source{Index: f.back.Index, Episodes: f.back.Episodes, Log: slog.New(slog.DiscardHandler)}
}

// add stores an episode whose files change by edit, and returns its id.
func (f *fixture) add(host ident.Host, profile, class string, edit func(map[string]string)) ident.EpisodeID {
	f.t.Helper()
	f.n++
	id, err := ident.NewEpisodeID(time.UnixMilli(1_700_000_000_000+int64(f.n)*1000), bytes.NewReader(make([]byte, 16)))
	if err != nil {
		f.t.Fatal(err)
	}
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: 1, Episode: id, Host: host, Profile: profile, Class: class, Experiment: ident.Digest(strings.Repeat("e", 64)),
		Code: episode.Code{Version: "v", Commit: commit}, Start: id.Time(), End: id.Time().Add(time.Second),
		Rows: map[string]int{"proc": 7}, Verdict: episode.Accepted,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	files := map[string]string{
		"meta.json": string(meta), "labels.jsonl": `{"t_wall_ns":1,"t_mono_ns":1,"phase":"clean","event":"start"}` + "\n",
		"events.jsonl": "", "done.marker": "accepted\n", "telemetry-proc.jsonl": "",
	}
	if edit != nil {
		edit(files)
	}
	dir := f.t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			f.t.Fatal(err)
		}
	}
	p, err := episode.NewPacker()
	if err != nil {
		f.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.Pack(f.t.Context(), &b, episode.Source{FS: disk.OS{}, Dir: dir, ID: id}); err != nil {
		f.t.Fatal(err)
	}
	f.put(host, id, b.Bytes())
	return id
}

func (f *fixture) put(host ident.Host, id ident.EpisodeID, body []byte) {
	f.t.Helper()
	sum := sha256.Sum256(body)
	_, created, err := f.store.Receive(receiver.Upload{
		Host: host, Episode: id, Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(body)), Commit: commit,
	}, bytes.NewReader(body), func() error { return nil })
	if err != nil || !created {
		f.t.Fatal(err, created)
	}
}

// open opens the catalogue and brings it up to date.
func (f *fixture) open() *catalogue.Catalogue {
	f.t.Helper()
	c, err := catalogue.Open(f.path, f.store.ID(), episode.FormatLimits())
	if err == nil {
		_, err = c.CatchUp(f.t.Context(), f.source())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func ids(t *testing.T, c *catalogue.Catalogue, q catalogue.Query) (all []ident.EpisodeID) {
	t.Helper()
	for range 1000 {
		p, err := c.Find(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rows {
			all = append(all, r.Episode)
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			return all
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

// Every combination of filters selects the same episodes as a plain loop, both ways round and
// in pages of any size.
func TestFind_IsAPlainFilter(t *testing.T) {
	f := newFixture(t)
	var all []catalogue.Row
	for i := range 40 {
		host := ident.Host([]string{"lab-01", "lab-02", "lab-0"}[i%3])
		profile, class := []string{"hash", "has"}[i/2%2], []string{"benign", "malicious", ""}[i/5%3]
		id := f.add(host, profile, class, nil)
		all = append(all, catalogue.Row{Host: host, Episode: id, Profile: profile, Class: class})
	}
	c := f.open()
	for _, host := range []ident.Host{"", "lab-01", "lab-0", "lab-9"} {
		for _, profile := range []string{"", "hash", "has", "h"} {
			for _, class := range []string{"", "benign", "malicious"} {
				for _, times := range [][2]int{{-1, 100}, {7, 100}, {3, 30}, {12, 12}} {
					var want []ident.EpisodeID
					for i, r := range all {
						if (host == "" || r.Host == host) && (profile == "" || r.Profile == profile) && (class == "" || r.Class == class) &&
							i >= times[0] && i < times[1] {
							want = append(want, r.Episode)
						}
					}
					q := catalogue.Query{Host: host, Profile: profile, Class: class, From: at(all, times[0]), To: at(all, times[1])}
					for _, limit := range []int{0, 1, 3} {
						q.Limit, q.Newest = limit, false
						if got := ids(t, c, q); !slices.Equal(got, want) {
							t.Fatalf("%s, limit %d: got %v, want %v", q, limit, got, want)
						}
						q.Newest = true
						got := ids(t, c, q)
						slices.Reverse(got)
						if !slices.Equal(got, want) {
							t.Fatalf("%s, limit %d, newest first: got %v, want %v", q, limit, got, want)
						}
					}
				}
			}
		}
	}
}

func at(all []catalogue.Row, i int) time.Time {
	if i < 0 || i >= len(all) {
		return time.Time{}
	}
	return all[i].Episode.Time()
}

func TestCatchUp_MarksWhatLies(t *testing.T) {
	f := newFixture(t)
	meta := func(old, new string) func(map[string]string) {
		return func(files map[string]string) {
			files["meta.json"] = strings.Replace(files["meta.json"], old, new, 1)
		}
	}
	want := map[ident.EpisodeID]string{
		f.add("lab-01", "hash", "benign", nil):                                                            "",
		f.add("lab-01", "hash", "benign", meta(`"host":"lab-01"`, `"host":"lab-02"`)):                     "is of host",
		f.add("lab-01", "hash", "benign", meta(string(commit), strings.Repeat("b", 40))):                  "is of commit",
		f.add("lab-01", "hash", "benign", meta(`"verdict":"accepted"`, `"verdict":"fine"`)):               "has the verdict",
		f.add("lab-01", "hash", "benign", func(m map[string]string) { delete(m, "labels.jsonl") }):        "lacks",
		f.add("lab-01", "hash", "benign", func(m map[string]string) { m["labels.jsonl"] = "{\n" }):        "labels.jsonl",
		f.add("lab-01", "ha\u202esh", "", func(m map[string]string) { m["events.jsonl"] = "not even\n" }): "",
	}
	const junk = ident.EpisodeID("01ARZ3NDEKTSV4RRFFQ69G5FA1")
	f.put("lab-01", junk, []byte("not a tarball"))
	want[junk] = "read tarball"
	c := f.open()
	for id, problem := range want {
		r, found, err := c.Get("lab-01", id)
		if err != nil || !found {
			t.Fatalf("%s: %v", id, err)
		}
		if ok := problem == ""; ok != (r.State == catalogue.OK) || !strings.Contains(r.Problem, problem) || ok != (r.Profile != "") {
			t.Errorf("%s: %+v, want %q", id, r, problem)
		}
		if strings.Contains(r.Profile, "\u202e") {
			t.Errorf("profile %q", r.Profile)
		}
	}
	if got := ids(t, c, catalogue.Query{State: catalogue.Refused}); len(got) != 6 {
		t.Errorf("%d refused", len(got))
	}
}

// Episodes that unpack to more than the limits, or are damaged behind their head, are refused.
// With other limits, all are read again.
func TestCatchUp_RefusesBombs(t *testing.T) {
	f := newFixture(t)
	sound := f.add("lab-01", "hash", "", nil)
	grow := func(edit func(map[string]string)) ident.EpisodeID { return f.add("lab-01", "hash", "", edit) }
	want := map[ident.EpisodeID]string{
		grow(func(m map[string]string) { m["telemetry-proc.jsonl"] = strings.Repeat("\x00", 3<<20) }): "larger than the limit of 2097152",
		grow(func(m map[string]string) {
			for i := range 30 {
				m[fmt.Sprint("z", i)] = ""
			}
		}): "limit of 20",
		grow(func(m map[string]string) { m["z/z/z"] = "" }): "more than 1 folders",
	}
	limits := episode.Limits{Bytes: 2 << 20, Files: 20, Depth: 1}
	for range 2 {
		c, err := catalogue.Open(f.path, f.store.ID(), limits)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CatchUp(t.Context(), f.source()); err != nil {
			t.Fatal(err)
		}
		for id, problem := range want {
			r, _, err := c.Get("lab-01", id)
			refused := limits.Files == 20
			if err != nil || refused != (r.State == catalogue.Refused) || refused && !strings.Contains(r.Problem, problem) {
				t.Errorf("limits %+v: %+v, want %q: %v", limits, r, problem, err)
			}
		}
		if r, _, err := c.Get("lab-01", sound); err != nil || r.State != catalogue.OK {
			t.Errorf("limits %+v: %+v: %v", limits, r, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		limits = episode.FormatLimits()
	}
}

func TestCatchUp_FollowsAndKeepsArchived(t *testing.T) {
	f := newFixture(t)
	first := f.add("lab-01", "hash", "", nil)
	c := f.open()
	e, _, err := f.store.Lookup("lab-01", first)
	if err != nil {
		t.Fatal(err)
	}
	if done, _, err := f.store.Archive("lab-01", map[ident.EpisodeID]ident.Digest{first: e.Digest}); err != nil || len(done) != 1 {
		t.Fatal(done, err)
	}
	second := f.add("lab-02", "churn", "", nil)
	if n, err := c.CatchUp(t.Context(), f.source()); err != nil || n != 2 {
		t.Errorf("%d rows: %v", n, err)
	}
	if n, err := c.CatchUp(t.Context(), f.source()); err != nil || n != 0 {
		t.Errorf("%d rows: %v", n, err)
	}
	r, _, err := c.Get("lab-01", first)
	if err != nil || !r.Archived || r.Profile != "hash" {
		t.Errorf("%+v: %v", r, err)
	}
	_, episodes, err := c.Reached()
	if got := ids(t, c, catalogue.Query{}); err != nil || episodes != 2 || !slices.Equal(got, []ident.EpisodeID{first, second}) {
		t.Errorf("%v, %d: %v", got, episodes, err)
	}
	// Anew, it knows no more of what was archived than the index.
	if err := errors.Join(c.Close(), catalogue.Remove(f.path)); err != nil {
		t.Fatal(err)
	}
	r, _, err = f.open().Get("lab-01", first)
	if err != nil || !r.Archived || r.State != catalogue.Unread {
		t.Errorf("%+v: %v", r, err)
	}
}

// Whatever is in the place of the file, and whatever page of it is damaged: it is opened, or
// rebuilt, and then complete.
func TestOpen_MakesADamagedFileAnew(t *testing.T) {
	f := newFixture(t)
	for range 30 {
		f.add("lab-01", "hash", "benign", nil)
	}
	if err := f.open().Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{"empty": {}, "text": []byte("hello"), "half": whole[:len(whole)/2], "one page": whole[:4096]}
	for page := 0; page < len(whole); page += 4096 {
		b := bytes.Clone(whole)
		copy(b[page:], bytes.Repeat([]byte{0xa5}, 4096))
		damaged[fmt.Sprintf("page at %d", page)] = b
	}
	for name, content := range damaged {
		if err := os.WriteFile(f.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for try := 0; ; try++ {
			got, err := f.count()
			if err == nil && got == 30 {
				break
			}
			if try > 0 || err == nil {
				t.Fatalf("%s: %d episodes: %v", name, got, err)
			}
			if err := catalogue.Remove(f.path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// count opens the catalogue, brings it up to date, and counts.
func (f *fixture) count() (n int, err error) {
	c, err := catalogue.Open(f.path, f.store.ID(), episode.FormatLimits())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.CatchUp(context.Background(), f.source()); err != nil {
		return 0, err
	}
	p, err := c.Find(catalogue.Query{Host: "lab-01"})
	return len(p.Rows), err
}

func TestOpen_IsOfOneStoreAndOneProcess(t *testing.T) {
	f := newFixture(t)
	f.add("lab-01", "hash", "", nil)
	c := f.open()
	if _, err := catalogue.Open(f.path, f.store.ID(), episode.FormatLimits()); !errors.Is(err, catalogue.ErrBusy) {
		t.Errorf("a second process: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := catalogue.Open(f.path, "another store", episode.FormatLimits())
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := other.Reached(); n != 0 || err != nil {
		t.Errorf("%d episodes of another store: %v", n, err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFind_RejectsAForeignCursor(t *testing.T) {
	c := newFixture(t).open()
	for _, cursor := range []string{"x", "AAAA", "!!", strings.Repeat("A", 20), strings.Repeat("_", 40)} {
		if _, err := c.Find(catalogue.Query{Cursor: cursor}); !errors.Is(err, catalogue.ErrCursor) {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}

// A value that ends early and goes on with a part of a key would name rows that do not exist.
func TestParseQuery_RejectsWhatNoRowHas(t *testing.T) {
	for _, name := range []string{"profile", "class", "verdict"} {
		for _, value := range []string{"hash\x00", "hash\x00\x01", "\xff", "a\u202eb", "a\nb"} {
			if _, err := catalogue.ParseQuery(url.Values{name: {value}}); err == nil {
				t.Errorf("%s=%q is accepted", name, value)
			}
		}
		if _, err := catalogue.ParseQuery(url.Values{name: {"größe 1"}}); err != nil {
			t.Error(err)
		}
	}
}

func TestFind_TimesBeforeAnyEpisode(t *testing.T) {
	f := newFixture(t)
	f.add("lab-01", "hash", "benign", nil)
	c, before := f.open(), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := ids(t, c, catalogue.Query{From: before}); len(got) != 1 {
		t.Errorf("from %s: %v", before, got)
	}
	if got := ids(t, c, catalogue.Query{To: before}); len(got) != 0 {
		t.Errorf("to %s: %v", before, got)
	}
}

var _ io.Closer = (*catalogue.Catalogue)(nil)
