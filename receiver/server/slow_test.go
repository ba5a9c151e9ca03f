package server_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/wire"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
	"cis490/receiver/s3"
)

// TestReady_StorageIsSilent: a database behind a network that drops all packets does not keep
// a balancer waiting for /readyz, and the answer names it.
func TestReady_StorageIsSilent(t *testing.T) {
	store, database := s3test.New(t), pgtest.New(t)
	name := database.Database(t)
	_, _, err := pg.Migrate(t.Context(), pgtest.URL("postgres", database.Addr, name), pgtest.ServeUser, "")
	must(t, err)
	between := pgtest.NewHole(t, database.Addr)
	url := filepath.Join(t.TempDir(), "postgres")
	must(t, os.WriteFile(url, []byte(pgtest.URL(pgtest.ServeUser, between.Addr, name)+"\n"), 0o600))
	bucket, err := objects.Open(s3test.Options(store.Addr))
	must(t, err)
	r := newHarness(t, func(r *harness) { r.database, r.bucket, r.store = url, bucket, store }, func(r *harness) {
		id, err := r.backend().Rows.ID()
		must(t, err)
		must(t, s3.Mark(t.Context(), bucket, id, time.Now()))
	})
	ask := func() (string, time.Duration) {
		began := time.Now()
		res, err := r.clientOf(nil).Get(r.url(wire.ReadyzPath))
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode == http.StatusOK {
			return "ready", time.Since(began)
		}
		return string(body), time.Since(began)
	}
	if answer, _ := ask(); answer != "ready" {
		t.Fatal(answer)
	}
	between.Set(true)
	defer between.Set(false)
	time.Sleep(1100 * time.Millisecond) // an answer is kept for a second
	for range 3 {
		if answer, took := ask(); took > 2500*time.Millisecond || answer == "ready" {
			t.Errorf("after %s: %s", took, answer)
		}
	}
	r.eventually("the answer names the database", func() bool { answer, _ := ask(); return strings.Contains(answer, "database: ") })
	between.Set(false)
	r.eventually("it is ready again", func() bool { answer, _ := ask(); return answer == "ready" })
}
