package commands_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
)

var (
	storeLarge    = flag.Bool("store-large", false, "send 4 GiB slowly to a receiver with an object store")
	storeEpisodes = flag.Int("store-episodes", 0, "how many episodes are copied to an object store and back")
)

// newStoreSite is a site whose receiver began with an object store.
func newStoreSite(t *testing.T, server *s3test.Server) *site {
	r := newSite(t)
	r.storeAt("s3.toml", server.Addr, "")
	r.stopServing()
	r.must(errors.Join(os.RemoveAll(r.path("rx")), os.Mkdir(r.path("rx"), 0o750), os.Rename(r.path("s3.toml"), r.path("rx.toml"))))
	r.mustRun("store", "init", "--config", r.path("rx.toml"))
	r.serve()
	r.ready()
	return r
}

// slowBody is a body at a rate of bytes per second, with a pause in the middle.
type slowBody struct {
	io.Reader
	rate, size int64
	pause      time.Duration
	begun      time.Time
	sent       int64
}

func (s *slowBody) Read(b []byte) (int, error) {
	if s.begun.IsZero() {
		s.begun = time.Now()
	}
	n, err := s.Reader.Read(b)
	due := time.Duration(float64(s.sent+int64(n)) / float64(s.rate) * float64(time.Second))
	if s.sent < s.size/2 && s.sent+int64(n) >= s.size/2 {
		s.begun = s.begun.Add(s.pause)
	}
	s.sent += int64(n)
	time.Sleep(time.Until(s.begun.Add(due))) // the host's speed
	return n, err
}

// TestStore_LargeAndSlow: an episode of 4 GiB from a host that sends 20 MB/s and pauses for
// 50 s in the middle is one upload at the store, and leaves nothing else. The host never
// hears nothing for as long as it waits, a minute.
func TestStore_LargeAndSlow(t *testing.T) {
	if !*storeLarge {
		t.Skip("takes minutes and 13 GiB of disk: make store-size")
	}
	const size = int64(4 << 30)
	server := s3test.New(t)
	r := newStoreSite(t, server)
	content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
	sum := sha256.New()
	_, err := io.Copy(sum, content())
	r.must(err)
	const id = ident.EpisodeID("01K00000000000000000000001")
	digest := hex.EncodeToString(sum.Sum(nil))

	body := &slowBody{Reader: content(), rate: 20_000_000, size: size, pause: 50 * time.Second}
	var sent, heard time.Time
	var silent time.Duration
	trace := &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { sent, heard = time.Now(), time.Now() },
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusProcessing {
				silent, heard = max(silent, time.Since(heard)), time.Now()
			}
			return nil
		},
	}
	req := r.upload(httptrace.WithClientTrace(t.Context(), trace), id, digest, body)
	req.ContentLength = size
	began := time.Now()
	res, err := r.client(time.Hour).Do(req)
	r.must(err)
	silent = max(silent, time.Since(heard))
	took := time.Since(began)
	r.must(res.Body.Close())
	if res.StatusCode != http.StatusCreated || silent > time.Minute {
		t.Errorf("answered %d, %s without a word", res.StatusCode, silent)
	}
	key := fmt.Sprintf("episodes/%s/%s.%s.%s%s", siteHost, id, digest, testCommit, wire.TarballSuffix)
	bucket := filepath.Join(server.Dir, s3test.Bucket)
	for _, path := range files(t, bucket) {
		rel, err := filepath.Rel(bucket, path)
		r.must(err)
		if rel != key && rel != "cis490-store.json" && !strings.HasPrefix(rel, "probe/") {
			t.Errorf("left at the store: %s", rel)
		}
	}
	for _, path := range append(files(t, r.path("rx/puts")), files(t, r.path("rx/staged"))...) {
		if filepath.Base(path) != ".lock" && filepath.Base(path) != "probe.partial" {
			t.Errorf("left at the receiver: %s", path)
		}
	}
	b, err := objects.Open(s3test.Options(server.Addr))
	r.must(err)
	if n, err := b.Abort(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d uploads were not completed, %v", n, err)
	}
	if n := r.metric(`cis490_store_request_seconds_count{op="multipart",outcome="ok"}`); n != "1" {
		t.Errorf("%s uploads in parts were begun", n)
	}
	r.mustRun("store", "verify", "--deep", "--config", r.path("rx.toml"))
	t.Logf("4 GiB sent in %s, answered %s later, longest time without a word after the body %s, serve's peak memory %s",
		sent.Sub(began).Round(time.Second), (took - sent.Sub(began)).Round(time.Second), silent.Round(time.Second), r.peak())
}

// TestStore_CopyMany copies episodes to an object store and back, killed ten times on each
// way: rows and digests are the same, and the last step takes at most a minute.
func TestStore_CopyMany(t *testing.T) {
	n := *storeEpisodes
	if n == 0 {
		t.Skip("takes many minutes: make store-size, or -store-episodes 2000")
	}
	server := s3test.New(t)
	r := newSite(t)
	r.stopServing()
	local := r.read("rx.toml")
	r.seed(n)
	index := r.read("rx/index.jsonl")
	r.storeAt("s3.toml", server.Addr, "")
	r.write("disk.toml", []byte(local))
	for _, to := range []string{"s3.toml", "disk.toml"} {
		began := time.Now()
		for kill := range 10 {
			r.copyUntil(to, n*(kill+1)/11)
		}
		copied := r.mustRun("store", "copy", "--to", r.path(to), "--config", r.path("rx.toml"))
		took, began := time.Since(began), time.Now()
		r.mustRun("store", "copy", "--to", r.path(to), "--config", r.path("rx.toml"), "--final")
		if final := time.Since(began); final > time.Minute {
			t.Errorf("--final took %s", final)
		}
		t.Logf("to %s in %s, killed 10 times; --final %s; %s", to, took.Round(time.Second), time.Since(began), strings.TrimSpace(copied))
		r.write("rx.toml", []byte(r.read(to)))
		if to == "s3.toml" { // the way back finds nothing there
			r.must(os.RemoveAll(r.path("rx/episodes")))
		}
		began = time.Now()
		out := r.mustRun("store", "verify", "--deep", "--json", "--config", r.path("rx.toml"))
		if want := fmt.Sprintf("\"rows\": %d,\n  \"lost\": 0,\n  \"wrong\": 0\n", n); !strings.Contains(out, want) {
			t.Errorf("verify of %s says %s, want %s", to, out, want)
		}
		t.Logf("verify --deep took %s", time.Since(began).Round(time.Second))
		if r.read("rx/index.jsonl") != index {
			t.Error("the index changed")
		}
	}
	if stored := r.tarballs(); stored != n {
		t.Errorf("%d tarballs are on the disk, want %d", stored, n)
	}
	r.serve()
	r.ready()
}

// seed stores n small episodes of 200 hosts, as the receiver would have over the years.
func (r *site) seed(n int) {
	index := new(bytes.Buffer)
	for i := range n {
		host, id := ident.Host(fmt.Sprintf("lab-%03d", i%200)), ident.EpisodeID(fmt.Sprintf("01J%023d", i))
		content := fmt.Appendf(nil, "tarball of %s/%s", host, id)
		sum := sha256.Sum256(content)
		row, err := json.Marshal(receiver.Entry{
			V: 1, ReceivedAt: r.seededAt(i), Host: host, Episode: id,
			Digest: ident.Digest(hex.EncodeToString(sum[:])), Size: int64(len(content)), Commit: testCommit,
		})
		r.must(err)
		_, _ = index.Write(append(row, '\n'))
		dir := filepath.Join(r.path("rx/episodes"), string(host))
		r.must(errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, string(id)+wire.TarballSuffix), content, 0o640)))
	}
	r.write("rx/index.jsonl", index.Bytes())
}

// seededAt is when an episode of seed was received.
func (*site) seededAt(i int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
}

// copyUntil copies, and kills the copy once so many episodes are.
func (r *site) copyUntil(to string, n int) {
	r.tb.Helper()
	cmd := exec.Command("cis490", "store", "copy", "--to", r.path(to), "--config", r.path("rx.toml"))
	r.must(cmd.Start())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			r.tb.Fatalf("the copy ended before it was killed: %v", err)
		case <-tick.C:
		}
		var p struct { // of this copy, or of the one before
			Place string
			At    time.Time
		}
		if json.Unmarshal([]byte(r.read("rx/store-copy.json")), &p) == nil && (p.Place == "") == (to == "disk.toml") &&
			!p.At.Before(r.seededAt(n-512)) {
			r.must(cmd.Process.Kill())
			if err := <-ended; err == nil {
				r.tb.Log("it ended before it was killed")
			}
			return
		}
	}
}

// tarballs counts those on the receiver's disk, of all hosts.
func (r *site) tarballs() (n int) {
	for _, path := range files(r.tb, r.path("rx/episodes")) {
		if strings.HasSuffix(path, wire.TarballSuffix) {
			n++
		}
	}
	return n
}

// files returns the files below a folder.
func files(tb testing.TB, dir string) (all []string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// metric returns a sample of serve's metrics.
func (r *site) metric(name string) string {
	req, err := http.NewRequestWithContext(r.tb.Context(), http.MethodGet, r.url+"/metrics", nil)
	r.must(err)
	req.Header.Set("Authorization", "Bearer secret")
	res, err := r.client(time.Minute).Do(req)
	r.must(err)
	b, err := io.ReadAll(res.Body)
	r.must(errors.Join(err, res.Body.Close()))
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "no"
}

// peak returns the most memory that serve had.
func (r *site) peak() string {
	_, after, _ := strings.Cut(r.proc(r.serving.Process.Pid, "status"), "VmHWM:")
	peak, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(peak)
}

// upload is the request for an episode of the site's host.
func (r *site) upload(ctx context.Context, id ident.EpisodeID, digest string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url+wire.EpisodePath(siteHost, id), body)
	r.must(err)
	for k, v := range map[string]string{
		"Authorization": "Bearer bearer", "Content-Type": wire.ContentTypeEpisode, wire.HeaderDigest: digest,
		wire.HeaderSchema: wire.SchemaVersion,
		wire.HeaderHost:   siteHost, wire.HeaderEpisode: string(id), wire.HeaderCommit: testCommit,
	} {
		req.Header.Set(k, v)
	}
	return req
}
