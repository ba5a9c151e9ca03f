//go:build solo

package solo

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/ident"
)

// TestBench_Memory measures the peak memory of 64 concurrent uploads of 64 MiB.
func TestBench_Memory(t *testing.T) {
	r := newHarness(t, "[limits]\nuploads = 256")
	r.start()
	sendMany(t, r)
	figure(t, "Memory/uploads=64", r.peakMiB(), "MiB-peak")
	r.kill()
	r.removeBodies()
}

// sendMany sends 64 bodies of 64 MiB at the same time.
func sendMany(t *testing.T, r *harness) {
	t.Helper()
	body := make([]byte, largeBody)
	_, _ = rand.Read(body)
	digest := digestOf(body)
	var wg sync.WaitGroup
	for i := range 64 {
		h := r.enroll(ident.Host(fmt.Sprintf("lab-%d", i)))
		wg.Go(func() {
			if status, err := h.put(newID(), body, digest); err != nil || status != http.StatusCreated {
				t.Errorf("answered %d, %v", status, err)
			}
		})
	}
	wg.Wait()
}

const rows = 10_000_000

// writeRows writes an index of that many rows.
func writeRows(t *testing.T, r *harness) {
	t.Helper()
	f, err := os.Create(r.path("data/index.jsonl"))
	must(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	at := time.Now().Add(-365 * 24 * time.Hour).UTC()
	for i := range rows {
		_, err := fmt.Fprintf(w, `{"v":1,"received_at":%q,"host":"lab-%04d","episode":"01ARZ3NDEK%016d",`+
			`"sha256":"%064x","size":4096,"commit":%q}`+"\n",
			at.Format(time.RFC3339Nano), i%2000, i, i, commit)
		must(t, err)
		at = at.Add(365 * 24 * time.Hour / rows)
	}
	must(t, w.Flush())
	must(t, f.Sync())
	must(t, f.Close())
}

// ready reports whether the receiver accepts uploads.
func (r *harness) ready() bool {
	res, err := r.clientOf(nil, false).Get("https://" + r.addr + "/readyz")
	if err == nil {
		_ = res.Body.Close()
	}
	return err == nil && res.StatusCode == http.StatusOK
}

// TestBench_TenMillionRows measures, with an index of ten million rows, the time to
// readiness, the memory, and the answer time of a duplicate.
func TestBench_TenMillionRows(t *testing.T) {
	r := newHarness(t, "")
	must(t, os.Mkdir(r.path("data"), 0o755))
	writeRows(t, r)
	for _, how := range []string{"clean", "after a kill under load"} {
		began := time.Now()
		r.start()
		h := r.enroll(ident.Host("lab-" + how[:1]))
		r.waitFor("the receiver is ready", r.ready)
		ready, memory := time.Since(began), r.peakMiB()
		body := []byte("body")
		id, digest := newID(), digestOf(body)
		for i := range 20 {
			began = time.Now()
			status, err := h.put(id, body, digest)
			if want := map[bool]int{true: 201, false: 200}[i == 0]; err != nil || status != want {
				t.Errorf("answered %d, %v", status, err)
			}
		}
		figure(t, "TenMillionRows/start="+strings.ReplaceAll(how, " ", "-"), ready.Seconds(), "s-to-ready", memory, "MiB-peak",
			float64(time.Since(began).Microseconds()), "us-duplicate")
		r.killLoaded()
	}
}

// killLoaded kills the receiver during uploads.
func (r *harness) killLoaded() {
	var answered atomic.Int64
	var wg sync.WaitGroup
	for _, send := range newSenders(r, 16) {
		wg.Go(func() {
			body := make([]byte, smallBody)
			for send(body) == nil {
				answered.Add(1)
			}
		})
	}
	r.waitFor("500 uploads are answered", func() bool { return answered.Load() > 500 })
	r.kill()
	wg.Wait()
}
