package server_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/s3"
	"cis490/receiver/store"
)

// onEach runs a test on every backend. The test gives on to each harness that it makes.
func onEach(t *testing.T, test func(t *testing.T, on func(*harness))) {
	t.Helper()
	t.Run("disk", func(t *testing.T) { test(t, func(*harness) {}) })
	t.Run("s3", func(t *testing.T) {
		server := s3test.New(t)
		test(t, func(r *harness) { r.keepIn(server.Addr) })
	})
}

// keepIn has the harness keep its tarballs in the bucket of an S3 server, below a prefix of
// its own.
func (r *harness) keepIn(addr string) {
	r.t.Helper()
	o := s3test.Options(addr)
	o.Prefix = strings.TrimPrefix(r.dir, "/") + "/"
	var err error
	r.bucket, err = objects.Open(o)
	must(r.t, err)
	const id = "store-of-the-test"
	must(r.t, os.Mkdir(r.config.DataDir, 0o750))
	must(r.t, os.WriteFile(filepath.Join(r.config.DataDir, store.IDFile), []byte(id+"\n"), 0o640))
	must(r.t, s3.Mark(r.t.Context(), r.bucket, id, time.Now()))
}

// on adds the backend to a base, which keeps everything but tarballs.
func (r *harness) on(base receiver.Backend) receiver.Backend {
	if r.bucket == nil {
		return base
	}
	return s3.Open(s3.Options{
		Base: base, Bucket: r.bucket, FS: r.fs, Dir: r.config.DataDir, Reserve: int64(r.config.Limits.DiskReserve),
		Uploads: r.config.Limits.Uploads, Now: r.now, Log: r.logger(),
	})
}

// neededDir returns a folder without which no episode can be stored.
func (r *harness) neededDir() string {
	if r.bucket == nil {
		return filepath.Join(r.config.DataDir, store.StagedDir)
	}
	return filepath.Join(r.config.DataDir, "puts")
}

// files returns the tarballs, as paths of the data folder, and what uploads in progress or
// failed ones have there.
func (r *harness) files() []string {
	r.t.Helper()
	if r.bucket == nil {
		return append(r.below(store.EpisodesDir), r.below(store.StagedDir)...)
	}
	all := append(r.below(store.StagedDir), r.below("puts")...)
	for o, err := range r.bucket.List(r.t.Context(), "episodes/", "") {
		must(r.t, err)
		episode, _, _ := strings.Cut(o.Key, ".") // the key also has digest and commit
		all = append(all, episode+wire.TarballSuffix)
	}
	return all
}

// content returns a stored tarball.
func (r *harness) content(k receiver.Key) string {
	r.t.Helper()
	f, err := r.backend().Episodes.Open(k)
	must(r.t, err)
	b, err := io.ReadAll(f)
	must(r.t, err)
	must(r.t, f.Close())
	return string(b)
}

// TestPut_StoreInTrouble: whatever is wrong with the object store, an upload has to wait,
// and is stored afterwards.
func TestPut_StoreInTrouble(t *testing.T) {
	server := s3test.New(t)
	for fault, want := range map[s3test.Fault]int{
		s3test.Refuse: 503, s3test.LoseAnswer: 503, s3test.HalfBody: 503, s3test.SlowDown: 503, s3test.Internal: 503, s3test.EmptyOK: 503,
		s3test.Redirect: 503, s3test.Denied: 503, s3test.Skewed: 503, s3test.Full: 507,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			p := s3test.NewProxy(t, server)
			r := newHarness(t, func(r *harness) { r.keepIn(p.Addr) })
			a := r.enrol("lab-a")
			p.Break(1, fault)
			for _, id := range []ident.EpisodeID{ep1, ep2} { // the second while it is known that the store is in trouble
				res, err := a.client.Do(a.request(id, "one"))
				must(t, err)
				problem, err := wire.ReadLocalProblem(res)
				must(t, err)
				must(t, res.Body.Close())
				if res.StatusCode != want || res.Header.Get("Retry-After") == "" || problem.Fix == "" {
					t.Errorf("%s: %d, Retry-After %q, fix %q, want %d", id, res.StatusCode, res.Header.Get("Retry-After"), problem.Fix, want)
				}
				if want == 507 && !strings.Contains(problem.Fix, "quota of the bucket") {
					t.Errorf("the fix of a full bucket is %q", problem.Fix)
				}
			}
			p.Arm(0, "", 0)
			r.eventually("it is stored", func() bool {
				status, _, _ := a.do(a.request(ep1, "one"))
				return status < 300
			})
			if rows := r.rows(); len(rows) != 1 {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}
