package web_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/version"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
	"cis490/receiver/web"
)

// harness is a dashboard over files that a test writes.
type harness struct {
	tests   func(context.Context) map[string]error // of notifications
	t       testing.TB
	dir     string
	now     time.Time
	clock   func() time.Time // nil: now
	hosts   []roster.Host
	book    contacts.Contacts
	copies  bool
	members []cluster.Member
	missing []string
	quiet   *silences
	crowd   listen.Stats
	from    func() string // the client's address
	cat     *catalogue.Catalogue
	log     *lines
	site    *web.Site
	server  *httptest.Server
	client  *http.Client
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// silences stores silences in memory.
type silences struct {
	mu  sync.Mutex
	all map[fleet.Key]web.Silence
}

func (s *silences) Active(time.Time) (map[fleet.Key]web.Silence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.all), nil
}

func (s *silences) Silence(all []fleet.Key, until time.Time, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range all {
		s.all[k] = web.Silence{Until: until, By: by}
	}
	return nil
}

func (s *silences) End(all []fleet.Key, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range all {
		delete(s.all, k)
	}
	return nil
}

// All is the roster.
func (r *harness) All() ([]roster.Host, error) { return r.hosts, nil }

func newHarness(t testing.TB) *harness {
	t.Helper()
	r := &harness{
		t:     t,
		dir:   t.TempDir(),
		now:   time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC),
		quiet: &silences{all: map[fleet.Key]web.Silence{}},
		log:   &lines{},
		from:  func() string { return "192.0.2.1" },
	}
	r.book.Hosts = map[ident.Host]*contacts.Contact{}
	r.write("operator", "s3cret\n")
	return r
}

func (r *harness) start() *harness {
	r.t.Helper()
	var err error
	conf := config.DefaultReceiver()
	conf.Operator = filepath.Join(r.dir, "operator")
	r.site, err = web.New(web.Options{
		Backend: local.Open(local.Options{FS: disk.OS{}, Dir: r.dir}), Roster: r, Build: version.Info{Version: "1.0.0"},
		Contacts: func() contacts.Contacts { return r.book }, Missing: func() []string { return r.missing },
		Tokens: local.Credentials(disk.OS{}, conf).Tokens,
		Known: func(id string) (check.Check, bool) {
			return check.Check{ID: id, Title: "Outbox empties", Fix: "on the lab host: sudo cis490 ship --once"}, id == "outbox.oldest"
		},
		Catalogue: func() *catalogue.Catalogue { return r.cat }, SendTar: func(w http.ResponseWriter, q *http.Request) error {
			_, err := io.WriteString(w, "tar of "+q.URL.RawQuery)
			return err
		},
		Silences: r.quiet, TestNotify: r.tests, Limits: fleet.Limits{SilentAfter: 30 * time.Minute},
		From:        func(*http.Request) string { return r.from() },
		Connections: func() listen.Stats { return r.crowd }, Copies: func() bool { return r.copies },
		Receivers: func() []cluster.Member { return r.members },
		Now: func() time.Time {
			if r.clock != nil {
				return r.clock()
			}
			return r.now
		},
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	must(r.t, err)
	mux := http.NewServeMux()
	for pattern, h := range r.site.Routes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) {
			if err := h(w, q); err != nil {
				_, _ = fmt.Fprintln(r.log, err) // a log in memory
			}
		})
	}
	r.server = httptest.NewTLSServer(mux)
	r.t.Cleanup(func() {
		r.server.CloseClientConnections() // streams of events
		r.server.Close()
	})
	jar, err := cookiejar.New(nil)
	must(r.t, err)
	r.client = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *harness) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	must(r.t, os.MkdirAll(filepath.Dir(path), 0o750))
	must(r.t, os.WriteFile(path, []byte(content), 0o600))
}

func (r *harness) json(v any) string {
	r.t.Helper()
	b, err := json.Marshal(v)
	must(r.t, err)
	return string(b) + "\n"
}

func (r *harness) alerts(open ...fleet.Alert) {
	r.write(receiver.FleetCheckDoc+".new", r.json(fleet.Last{At: r.now, Open: open}))
	must(r.t, os.Rename(filepath.Join(r.dir, receiver.FleetCheckDoc+".new"), filepath.Join(r.dir, receiver.FleetCheckDoc)))
}

// row returns an index row of some time ago.
func (r *harness) row(h ident.Host, i int, ago time.Duration) receiver.Entry {
	at := r.now.Add(-ago)
	id, err := ident.NewEpisodeID(at.Add(-time.Minute), strings.NewReader(fmt.Sprintf("%010d", i)))
	must(r.t, err)
	return receiver.Entry{
		V:          1,
		ReceivedAt: at,
		Host:       h,
		Episode:    id,
		Digest:     ident.Digest(fmt.Sprintf("%064x", i)),
		Size:       1000,
		Commit:     ident.Commit(strings.Repeat("c", 40)),
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (r *harness) do(req *http.Request) answer {
	r.t.Helper()
	res, err := r.client.Do(req)
	must(r.t, err)
	b, err := io.ReadAll(res.Body)
	must(r.t, err)
	must(r.t, res.Body.Close())
	return answer{res.StatusCode, res.Header, string(b)}
}

func (r *harness) get(path string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.server.URL+path, nil)
	must(r.t, err)
	return r.do(req)
}

func (r *harness) post(path string, form url.Values, change ...func(*http.Request)) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.server.URL+path, strings.NewReader(form.Encode()))
	must(r.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range change {
		f(req)
	}
	return r.do(req)
}

func (r *harness) signIn() *harness {
	r.t.Helper()
	if a := r.post("/sign-in", url.Values{"token": {"s3cret"}}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		r.t.Fatalf("sign in: %d to %q", a.status, a.header.Get("Location"))
	}
	return r
}

// code reads the code of this session's forms out of a page.
func (r *harness) code() string {
	r.t.Helper()
	m := regexp.MustCompile(`name="code" value="([^"]+)"`).FindStringSubmatch(r.get("/").body)
	if m == nil {
		r.t.Fatal("the page has no form")
	}
	return m[1]
}

// follow makes the dashboard count the rows of the index.
func (r *harness) follow() {
	r.t.Helper()
	must(r.t, web.Follow(r.site, r.now))
}
