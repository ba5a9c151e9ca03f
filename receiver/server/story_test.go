package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

func set(k, v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(k, v) }
}

func drop(k string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(k) } }

func path(p string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Opaque = "//" + r.URL.Host + p }
}

// TestPut_Story walks the whole table of answers, in both TLS modes and on every backend. After every step the files and rows are
// exactly those of what was accepted.
func TestPut_Story(t *testing.T) { onEach(t, putStory) }

func putStory(t *testing.T, on func(*harness)) {
	for _, m := range []mode{direct, socketed} {
		t.Run(string(m), func(t *testing.T) {
			seen := map[wire.Kind]bool{}
			story(t, m, on, seen)
			troubles(t, m, on, seen)
			for _, a := range wire.Answers() {
				switch a.Kind {
				case wire.BadCSR, wire.BadToken, wire.NotThisKey, wire.TokenUsed, wire.TokenExpired, wire.NotInvited: // the authority's
				default:
					if !seen[a.Kind] {
						t.Errorf("no story has the answer %s", a.Kind)
					}
				}
			}
		})
	}
}

// story is a sequence of requests to one receiver, with the expected answers.
func story(t *testing.T, m mode, on func(*harness), seen map[wire.Kind]bool) {
	t.Helper()
	r := newHarness(t, over(m), on)
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	evil, err := pki.NewCA(time.Now())
	must(t, err)
	revoked := r.hostWith(r.ca, "lab-a", time.Now(), time.Hour)
	expired := r.hostWith(r.ca, "lab-a", time.Now().Add(-48*time.Hour), time.Hour)
	gone := r.enrol("lab-gone")
	r.event(roster.Event{Host: "lab-gone", Event: roster.Decommissioned})
	nobody := &host{r: r, name: "lab-a", bearer: a.bearer, client: r.clientOf(nil)}
	forged := r.hostWith(evil, "lab-a", time.Now(), time.Hour)

	big := strings.Repeat("x", 1<<20+1)
	steps := []struct {
		name    string
		host    *host
		id      ident.EpisodeID
		content string
		change  func(*http.Request)
		status  int
		kind    wire.Kind
	}{
		{"no certificate", nobody, ep1, "one", nil, 401, wire.Unauthorized},
		{"another CA", forged, ep1, "one", nil, 401, wire.Unauthorized},
		{"expired", expired, ep1, "one", nil, 401, wire.CertExpired},
		{"revoked serial", revoked, ep1, "one", nil, 401, wire.CertRevoked},
		{"not in the roster", r.hostWith(r.ca, "lab-z", time.Now(), time.Hour), ep1, "one", nil, 403, wire.UnknownHost},
		{"decommissioned", gone, ep1, "one", nil, 403, wire.Decommission},
		{"bad bearer", a, ep1, "one", set("Authorization", "Bearer wrong"), 401, wire.BadBearer},
		{"no bearer", a, ep1, "one", drop("Authorization"), 401, wire.BadBearer},
		{"another's path", a, ep1, "one", path(wire.EpisodePath("lab-b", ep1)), 403, wire.OtherHost},
		{"another's header", a, ep1, "one", set(wire.HeaderHost, "lab-b"), 403, wire.OtherHost},
		{"doubled host header", a, ep1, "one", func(r *http.Request) { r.Header.Add(wire.HeaderHost, "lab-a") }, 400, wire.Malformed},
		{"doubled digest", a, ep1, "one", func(r *http.Request) { r.Header.Add(wire.HeaderDigest, string(digestOf(nil))) }, 400, wire.Malformed},
		{"no host header", a, ep1, "one", drop(wire.HeaderHost), 400, wire.Malformed},
		{"no digest", a, ep1, "one", drop(wire.HeaderDigest), 400, wire.Malformed},
		{"bad digest", a, ep1, "one", set(wire.HeaderDigest, "ABC"), 400, wire.Malformed},
		{"other schema", a, ep1, "one", set(wire.HeaderSchema, "2"), 400, wire.Malformed},
		{"other type", a, ep1, "one", set("Content-Type", "text/html"), 400, wire.Malformed},
		{"other episode header", a, ep1, "one", set(wire.HeaderEpisode, string(ep2)), 400, wire.Malformed},
		{"bad commit", a, ep1, "one", set(wire.HeaderCommit, "HEAD"), 400, wire.Malformed},
		{"no commit", a, ep1, "one", drop(wire.HeaderCommit), 400, wire.Unstamped},
		{"empty", a, ep1, "", nil, 400, wire.Malformed},
		{"in chunks", a, ep1, "one", func(r *http.Request) { r.ContentLength = -1 }, 400, wire.Malformed},
		{"lower-case id", a, ep1, "one", path(strings.ToLower(wire.EpisodePath("lab-a", ep1))), 400, wire.Malformed},
		{"other ending", a, ep1, "one", path("/v1/episodes/lab-a/" + string(ep1) + ".tar"), 400, wire.Malformed},
		{"dots", a, ep1, "one", path("/v1/episodes/lab-a/../lab-b/" + string(ep1) + ".tar.zst"), 400, wire.Malformed},
		{"encoded slash", a, ep1, "one", path("/v1/episodes/lab-a%2F" + string(ep1) + ".tar.zst"), 400, wire.Malformed},
		{"NUL", a, ep1, "one", path("/v1/episodes/lab-a/%00" + string(ep1) + ".tar.zst"), 400, wire.Malformed},
		{"very long", a, ep1, "one", path("/v1/episodes/lab-a/" + strings.Repeat("A", 4000)), 400, wire.Malformed},
		{"gated", a, ep1, "one", set(wire.HeaderCommit, string(other)), 412, wire.Gated},
		{"too large", a, ep1, big, nil, 413, wire.TooLarge},
		{"body is not its digest", a, ep1, "one", set(wire.HeaderDigest, string(digestOf([]byte("two")))), 422, wire.BadDigest},

		{"stored", a, ep1, "one", nil, 201, ""},
		{"again", a, ep1, "one", nil, 200, ""},
		{"again, though gated by now", a, ep1, "one", set(wire.HeaderCommit, string(other)), 200, ""},
		{"again, without a commit", a, ep1, "one", drop(wire.HeaderCommit), 200, ""},
		{"other content", a, ep1, "two", nil, 409, wire.OtherDigest},
		{"same id of another host", b, ep1, "two", nil, 201, ""},
		{"second", a, ep2, strings.Repeat("y", 1<<20), nil, 201, ""},
	}
	var files []string
	rows := 0
	for _, s := range steps {
		var change []func(*http.Request)
		if s.change != nil {
			change = append(change, s.change)
		}
		status, kind, detail := s.host.do(s.host.request(s.id, s.content, change...))
		seen[kind] = true
		if status != s.status || kind != s.kind {
			t.Errorf("%s: answered %d %s (%s), want %d %s", s.name, status, kind, detail, s.status, s.kind)
		}
		if status >= 400 {
			r.eventually(s.name+" is logged", func() bool {
				log := r.log.String()
				return strings.Contains(log, "status="+strconv.Itoa(status)) && strings.Contains(log, "err=")
			})
		}
		r.log.reset()
		if status == http.StatusCreated {
			files = append(files, "episodes/"+string(s.host.name)+"/"+string(s.id)+".tar.zst")
			rows++
		}
		if status < 300 {
			var receipt wire.Receipt
			must(t, json.Unmarshal([]byte(detail), &receipt))
			want := wire.Receipt{
				Host:     s.host.name,
				Episode:  s.id,
				Digest:   digestOf([]byte(s.content)),
				Size:     int64(len(s.content)),
				StoredAt: receipt.StoredAt,
				StoreID:  receipt.StoreID,
			}
			if receipt != want || receipt.StoreID == "" || time.Since(receipt.StoredAt).Abs() > time.Minute {
				t.Errorf("%s: receipt %+v", s.name, receipt)
			}
		}
		sorted := cmp.Transformer("sort", func(s []string) map[string]bool {
			m := map[string]bool{}
			for _, v := range s {
				m[v] = true
			}
			return m
		})
		if diff := cmp.Diff(files, r.files(), sorted); diff != "" {
			t.Errorf("%s: files: %s", s.name, diff)
		}
		if got := len(r.rows()); got != rows {
			t.Errorf("%s: %d rows, want %d", s.name, got, rows)
		}
	}
	if got := r.content(receiver.Key{Host: "lab-a", Episode: ep1}); got != "one" {
		t.Errorf("stored is %q", got)
	}
}

// troubles are the answers that need a receiver in trouble, or at a limit. None of
// them leaves a file.
func troubles(t *testing.T, m mode, on func(*harness), seen map[wire.Kind]bool) {
	t.Helper()
	trickle := func(r *http.Request) { // half a body, and then silence
		pr, pw := io.Pipe()
		r.Body = pr
		go func() { _, _ = io.WriteString(pw, large[1:]) }()
	}
	get := func(p string) func(*http.Request) {
		return func(r *http.Request) {
			r.Method, r.Body, r.ContentLength, r.URL.Path = http.MethodGet, http.NoBody, 0, p
			r.Header.Del("Expect")
		}
	}
	for _, s := range []struct {
		name    string
		trouble func(*harness) // before the start
		change  func(*http.Request)
		status  int
		kind    wire.Kind
	}{
		{"no such path", nil, get("/v1/episode"), 404, wire.NotFound},
		{"no such method", nil, func(r *http.Request) { r.Method = http.MethodDelete }, 405, wire.BadMethod},
		{"an episode is not the host's to read", nil, get(wire.EpisodePath("lab-a", ep1)), 401, wire.NeedsOperator},
		{"the operator's", nil, get(wire.FleetPath), 401, wire.NeedsOperator},
		{"silence", idle(200 * time.Millisecond), trickle, 408, wire.TimedOut},
		{"no room in the hour", func(r *harness) { r.config.Limits.HostHourly = 1 }, nil, 429, wire.Busy},
		{"no room in the quota", func(r *harness) { r.config.Limits.HostQuota = 10 }, nil, 507, wire.Quota},
		{"no room on the disk", func(r *harness) { r.config.Limits.DiskReserve = 1 << 60 }, nil, 507, wire.Full},
		{"no roster", func(r *harness) { must(t, os.Remove(filepath.Join(r.config.Authority.Dir, local.RosterFile))) }, nil, 503, wire.NotReady},
		{"no trusted CA", func(r *harness) { must(t, os.Remove(filepath.Join(r.config.Authority.Dir, "trust.pem"))) }, nil, 503, wire.NotReady},
		{"no list of the gate", func(r *harness) { must(t, os.Remove(filepath.Join(r.dir, "receiver.toml"))) }, nil, 503, wire.NotReady},
		{"no files", func(r *harness) { must(t, os.MkdirAll(filepath.Join(r.config.DataDir, "index.jsonl"), 0o755)) }, nil, 503, wire.NotReady},
		{"no place for uploads", nil, nil, 500, wire.Broken},
	} {
		change := []func(*harness){over(m), on}
		if s.trouble != nil {
			change = append(change, s.trouble)
		}
		r := newHarness(t, change...)
		a := r.hostWith(r.ca, "lab-a", time.Now(), time.Hour)
		if s.name != "no roster" {
			a.enrolled()
		}
		if s.kind == wire.Broken {
			must(t, os.Rename(r.neededDir(), r.neededDir()+".away"))
		}
		if s.name == "no room in the hour" {
			if status, _, detail := a.do(a.request(ep2, "first")); status != 201 {
				t.Errorf("%s: the first is answered %d %s", s.name, status, detail)
			}
		}
		var changes []func(*http.Request)
		if s.change != nil {
			changes = append(changes, s.change)
		}
		status, kind, detail := a.do(a.request(ep1, large, changes...))
		seen[kind] = true
		if status != s.status || kind != s.kind {
			t.Errorf("%s: answered %d %s (%s), want %d %s", s.name, status, kind, detail, s.status, s.kind)
		}
		if s.kind == wire.Broken {
			must(t, os.Rename(r.neededDir()+".away", r.neededDir()))
		}
		if s.name != "no files" && s.name != "no room in the hour" {
			r.untouched()
		}
		r.stop()
	}
}

// TestOpenAPI_HasEveryRoute: the document has the receiver's routes, and no others.
func TestOpenAPI_HasEveryRoute(t *testing.T) {
	d, err := document()
	must(t, err)
	var served []string
	for _, p := range newHarness(t).server.Routes() {
		served = append(served, strings.TrimSuffix(p, "{$}"))
	}
	slices.Sort(served)
	if diff := cmp.Diff(d.Operations("host", "operator", "data", "public", "dashboard"), served); diff != "" {
		t.Errorf("docs/openapi.yaml (-) and the receiver (+) differ:\n%s", diff)
	}
}

func TestRoutes_UnknownAndOperator(t *testing.T) { onEach(t, unknownAndOperatorsRoutes) }

func unknownAndOperatorsRoutes(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	digest := digestOf([]byte("binary"))
	must(t, os.MkdirAll(filepath.Join(r.config.DataDir, "releases/blobs"), 0o755))
	must(t, os.WriteFile(filepath.Join(r.config.DataDir, "releases/blobs", string(digest)), []byte("binary"), 0o600))
	snapshot := `{"schema":"cis490.doctor/1","checks":[]}`
	huge := `{"x":"` + strings.Repeat("x", wire.MaxSnapshot) + `"}`

	steps := []struct {
		method, path, body, bearer string
		status                     int
		want                       string // kind, or part of the body
	}{
		{"GET", "/", "", "", 200, "Sign in"},
		{"GET", "/no-such", "", "", 404, "not-found"},
		{"GET", "/v1/episodes", "", "", 401, "needs-operator"},
		{"GET", "/v1/episodes", "", a.bearer, 401, "needs-operator"},
		{"GET", "/v1/episodes", "", "s3cret", 503, "not-ready"},
		{"GET", wire.EpisodePath("lab-a", ep1), "", a.bearer, 401, "needs-operator"},
		{"GET", wire.EpisodePath("lab-a", ep1), "", "s3cret", 404, "not-found"},
		{"GET", wire.EpisodesPath + "/lab-a/x", "", "s3cret", 400, "malformed"},
		{"DELETE", wire.EpisodePath("lab-a", ep1), "", "", 405, "method-not-allowed"},
		{"PUT", "/healthz", "", "", 405, "method-not-allowed"},
		{"GET", "/healthz", "", "", 200, "ok"},
		{"GET", "/readyz", "", "", 200, "ready"},
		{"GET", "/v1/gate/" + string(own), "", "", 200, `"accepted":true`},
		{"GET", "/v1/gate/" + string(other), "", "", 200, `"accepted":false`},
		{"GET", "/v1/gate/HEAD", "", "", 400, "malformed"},
		{"GET", "/v1/releases?os=linux&arch=amd64", "", "", 404, "not-found"},
		{"GET", "/v1/releases/blob/" + string(digest), "", "", 200, "binary"},
		{"GET", "/v1/releases/blob/" + string(digestOf(nil)), "", "", 404, "not-found"},
		{"GET", "/v1/releases/blob/..", "", "", 400, "malformed"},
		{"GET", "/v1/host-health/lab-a", "", "s3cret", 404, "not-found"},
		{"PUT", "/v1/host-health/lab-a", snapshot, a.bearer, 201, `"lab-a"`},
		{"PUT", "/v1/host-health/lab-a", snapshot, a.bearer, 200, `"lab-a"`},
		{"PUT", "/v1/host-health/lab-a", snapshot, "wrong", 401, "bad-bearer"},
		{"PUT", "/v1/host-health/lab-b", snapshot, a.bearer, 403, "other-host"},
		{"PUT", "/v1/host-health/lab-a", "[]", a.bearer, 400, "malformed"},
		{"PUT", "/v1/host-health/lab-a", "{", a.bearer, 400, "malformed"},
		{"PUT", "/v1/host-health/lab-a", huge, a.bearer, 413, "too-large"},
		{"GET", "/v1/host-health/lab-a", "", "", 401, "needs-operator"},
		{"GET", "/v1/host-health/lab-a", "", a.bearer, 401, "needs-operator"},
		{"GET", "/v1/host-health/lab-a", "", "s3cret", 200, "cis490.doctor/1"},
		{"GET", "/v1/host-health", "", "", 401, "needs-operator"},
		{"GET", "/v1/host-health", "", "s3cret", 200, `"hosts":[{"host":"lab-a"`},
		{
			"POST",
			"/v1/ping",
			`{"version":"1","commit":"` + string(other) + `","boot_id":"b","clock":"2026-01-01T00:00:00Z"}`,
			a.bearer,
			200,
			`"accepted":false`,
		},
		{"POST", "/v1/ping", `{`, a.bearer, 400, "malformed"},
		{"POST", "/v1/ping", `{}`, "", 401, "bad-bearer"},
		{
			"POST",
			"/v1/reconcile",
			`{"episodes":[{"episode":"` + string(ep1) + `","sha256":"` + string(digest) + `"}]}`,
			a.bearer,
			200,
			`"stored":[]`,
		},
		{"POST", "/v1/reconcile", `{"episodes":[{"episode":"` + string(ep1) + `"}]}`, a.bearer, 400, "malformed"},
		{"POST", "/v1/reconcile", `{"episodes":[{"episode":"x","sha256":"y"}]}`, a.bearer, 400, "malformed"},
	}
	for _, s := range steps {
		req, err := http.NewRequestWithContext(t.Context(), s.method, r.url(s.path), strings.NewReader(s.body))
		must(t, err)
		if s.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+s.bearer)
		}
		if strings.HasSuffix(s.path, "/..") {
			req.URL.Opaque = "//" + req.URL.Host + s.path
		}
		status, kind, body := a.do(req)
		if status != s.status || !strings.Contains(string(kind)+" "+body, s.want) {
			t.Errorf("%s %s: %d %s %.200s, want %d %s", s.method, s.path, status, kind, body, s.status, s.want)
		}
	}
}

// Only the limit of an episode can be raised: other refusals do not offer that.
func TestTooLarge_FixFits(t *testing.T) { onEach(t, tooLargeFixFits) }

func tooLargeFixFits(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a := r.enrol("lab-a")
	huge := `{"x":"` + strings.Repeat("x", wire.MaxSnapshot) + `"}`
	for path, raise := range map[string]bool{"/v1/host-health/lab-a": false, wire.EpisodePath("lab-a", ep1): true} {
		req := a.request(ep1, huge)
		if raise {
			req = a.request(ep1, strings.Repeat("x", 1<<20+1))
		}
		req.URL.Path = path
		res, err := a.client.Do(req)
		must(t, err)
		p, err := wire.ReadLocalProblem(res)
		must(t, err)
		must(t, res.Body.Close())
		if p.Kind != wire.TooLarge || strings.Contains(p.Fix, "episode_size") != raise {
			t.Errorf("%s: %s, fix %q", path, p, p.Fix)
		}
	}
}

// The ping of a host that leaves is durable, even if serve is killed right after its
// answer.
func TestPing_LeavingIsDurable(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	req, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		r.url(wire.PingPath),
		strings.NewReader(`{"boot_id":"b","clock":"2026-01-01T00:00:00Z","leaving":true}`),
	)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+a.bearer)
	if status, _, body := a.do(req); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	book, err := contacts.Read(r.healthy().Docs)
	must(t, err)
	if h := book.Hosts["lab-a"]; h == nil || !h.Leaving {
		t.Errorf("what is on the disk does not say that it left: %+v", h)
	}
}

// TestBlob: a client gets a binary or a range of it, compressed if it asks for that.
func TestBlob(t *testing.T) {
	r := newHarness(t)
	digest, dir := digestOf([]byte("binary")), filepath.Join(r.config.DataDir, "releases")
	must(t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o755))
	must(t, os.WriteFile(manifest.BlobPath(dir, digest), []byte("binary"), 0o600))
	get := func(bytes, encoding, wantEncoding, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url("/v1/releases/blob/"+string(digest)), nil)
		must(t, err)
		req.Header.Set("Range", bytes)
		req.Header.Set("Accept-Encoding", encoding)
		res, err := r.clientOf(nil).Do(req)
		must(t, err)
		b, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if got := res.Header.Get("Content-Encoding"); res.StatusCode != http.StatusPartialContent || string(b) != want || got != wantEncoding {
			t.Errorf("%s of %q: %d, %q %q, want %q %q", bytes, encoding, res.StatusCode, got, b, wantEncoding, want)
		}
	}
	get("bytes=2-", "zstd", "", "nary") // is not published compressed
	must(t, os.WriteFile(manifest.PackedPath(dir, digest), []byte("packed"), 0o600))
	get("bytes=2-", "zstd", "zstd", "cked")
	get("bytes=2-", "gzip, br, zstd", "zstd", "cked")
	get("bytes=2-", "gzip, zstd;q=0", "", "nary")
	get("bytes=2-", "", "", "nary")
}

func TestReconcile_TellsWhatIsStored(t *testing.T) { onEach(t, reconcileTellsWhatIsStored) }

func reconcileTellsWhatIsStored(t *testing.T, on func(*harness)) {
	r := newHarness(t, on)
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	for _, h := range []*host{a, b} {
		if status, _, _ := h.do(h.request(ep1, string(h.name))); status != http.StatusCreated {
			t.Fatal(status)
		}
	}
	body, err := json.Marshal(wire.Reconcile{Episodes: []wire.Pair{
		{Episode: ep1, Digest: digestOf([]byte("lab-a"))},
		{Episode: ep1, Digest: digestOf([]byte("lab-b"))}, // another's
		{Episode: ep2, Digest: digestOf([]byte("lab-a"))},
	}})
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url(wire.ReconcilePath), bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+a.bearer)
	status, _, answer := a.do(req)
	var got wire.Reconciled
	must(t, json.Unmarshal([]byte(answer), &got))
	if diff := cmp.Diff([]ident.EpisodeID{ep1}, got.Stored); status != http.StatusOK || diff != "" {
		t.Errorf("%d: %s", status, diff)
	}
}
