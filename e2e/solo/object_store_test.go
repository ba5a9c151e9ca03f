//go:build solo

package solo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
)

// newObjectHarness returns a harness whose tarballs are in a new object store.
func newObjectHarness(t *testing.T, conf string) (*harness, *s3test.Server) {
	t.Helper()
	s := s3test.New(t)
	keys := t.TempDir() + "/keys"
	secret := fmt.Sprintf("access_key_id = %s\nsecret_access_key = %s\n", s3test.Keys().ID, s3test.Keys().Secret)
	must(t, os.WriteFile(keys, []byte(secret), 0o600))
	r := newHarness(t, conf+fmt.Sprintf("\n[store]\nbackend = \"s3\"\n[store.s3]\nendpoint = \"http://%s\"\nbucket = %q\n"+
		"path_style = true\ncredentials_file = %q\ndelete_credentials_file = %q\n", s.Addr, s3test.Bucket, keys, keys))
	return r, s
}

// claim marks the bucket as this receiver's.
func (r *harness) claim() {
	r.t.Helper()
	must(r.t, os.Mkdir(r.path("data"), 0o755))
	if out, err := exec.Command("cis490", "store", "init", "--config", r.path("receiver.toml")).CombinedOutput(); err != nil {
		r.t.Fatalf("store init: %v: %s", err, out)
	}
}

// TestBench_ObjectStore compares uploads of 64 MiB, on their way to an object store, with
// the same bodies sent to that store directly.
func TestBench_ObjectStore(t *testing.T) {
	r, s := newObjectHarness(t, "")
	r.claim()
	r.start()
	for _, clients := range []int{1, 4} {
		ours, limit := newSenders(r, clients), barePuts(t, s, clients)
		for range rounds {
			a, b := megabytes(t, ours), megabytes(t, limit)
			figure(t, fmt.Sprintf("ObjectStore/clients=%d", clients), a, "MB/s", b, "bare-PUT-MB/s", a/b, "ratio")
			empty(t, s)
		}
	}
	figure(t, "ObjectStore", r.peakMiB(), "MiB-peak")
}

// barePuts returns n clients that put bodies into the store.
func barePuts(t *testing.T, s *s3test.Server, n int) (all []sender) {
	t.Helper()
	for range n {
		b, err := objects.Open(s3test.Options(s.Addr))
		must(t, err)
		must(t, b.Probe(t.Context(), "bench")) // otherwise it would read each object back
		all = append(all, func(body []byte) error {
			return b.Put(context.Background(), "bare/"+string(newID()), bytes.NewReader(body), int64(len(body)), digestOf(body))
		})
	}
	return all
}

// empty removes the objects, to free disk space.
func empty(t *testing.T, s *s3test.Server) {
	t.Helper()
	for _, dir := range []string{"bare", "episodes"} {
		must(t, os.RemoveAll(s.Dir+"/"+s3test.Bucket+"/"+dir))
	}
}

// TestBench_ObjectStoreMemory measures the peak memory of 64 concurrent uploads of 64 MiB
// to an object store.
func TestBench_ObjectStoreMemory(t *testing.T) {
	r, s := newObjectHarness(t, "[limits]\nuploads = 256")
	r.claim()
	r.start()
	sendMany(t, r)
	figure(t, "ObjectStoreMemory/uploads=64", r.peakMiB(), "MiB-peak")
	empty(t, s)
}

// TestBench_ObjectStoreTenMillionRows measures the time to readiness with an object store
// and an index of ten million rows.
func TestBench_ObjectStoreTenMillionRows(t *testing.T) {
	r, _ := newObjectHarness(t, "")
	r.claim()
	writeRows(t, r)
	began := time.Now()
	r.start()
	r.waitFor("the receiver is ready", r.ready)
	figure(t, "ObjectStoreTenMillionRows", time.Since(began).Seconds(), "s-to-ready", r.peakMiB(), "MiB-peak")
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Error(r.log)
	}
}
