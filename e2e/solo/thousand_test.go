//go:build e2e

package solo

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// TestThousandHosts_Fetch: a thousand hosts request a new version at once. The receiver
// serves as many as [rollout] downloads allows; the others get Retry-After at once, resume
// later, and all have the version at the end. Uploads are accepted meanwhile.
func TestThousandHosts_Fetch(t *testing.T) {
	const hosts, places = 1000, 16
	r := newHarness(t, fmt.Sprintf("[rollout]\ndownloads = %d", places))
	blob := make([]byte, 24<<20) // larger than the buffers of a connection
	_, _ = rand.Read(blob)
	digest := digestOf(blob)
	must(t, os.MkdirAll(r.path("data/releases/blobs"), 0o755))
	must(t, os.WriteFile(manifest.BlobPath(filepath.Join(r.dir, "data/releases"), digest), blob, 0o644))
	r.start()
	lab := r.enroll("lab-a")

	var answered, done sync.WaitGroup
	answered.Add(hosts)
	letRead := make(chan struct{})
	var mu sync.Mutex
	var served, refused int
	came := time.Now()
	for i := range hosts {
		done.Go(func() {
			res, err := r.fetchFrom(i, digest, 0)
			if err == nil && res.StatusCode == http.StatusOK {
				_, err = io.ReadFull(res.Body, make([]byte, 1))
			}
			mu.Lock()
			switch {
			case err != nil:
				t.Errorf("host %d: %v", i, err)
			case res.StatusCode == http.StatusOK:
				served++
			default:
				p, perr := wire.ReadProblem(res)
				if perr != nil || p.Kind != wire.Busy || p.RetryAfter < 30 {
					t.Errorf("host %d: %d, %+v, %v", i, res.StatusCode, p, perr)
				}
				refused++
			}
			mu.Unlock()
			answered.Done()
			if err != nil {
				return
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode == http.StatusOK {
				<-letRead
				rest, err := io.ReadAll(res.Body)
				if err != nil || !bytes.Equal(rest, blob[1:]) {
					t.Errorf("host %d: %d bytes, %v", i, len(rest), err)
				}
				return
			}
			<-letRead
			r.fetchTail(i, digest, blob)
		})
	}
	answered.Wait()
	t.Logf("%d hosts have an answer after %s: %d are served, %d have to retry later", hosts, time.Since(came).Round(time.Millisecond),
		served, refused)
	if served != places || refused != hosts-places {
		t.Errorf("%d served, %d refused, want %d and %d", served, refused, places, hosts-places)
	}
	began := time.Now()
	if status, err := lab.put(newID(), []byte("an episode"), digestOf([]byte("an episode"))); status != http.StatusCreated {
		t.Errorf("an episode meanwhile: %d %v", status, err)
	}
	t.Logf("an episode was accepted meanwhile in %s", time.Since(began).Round(time.Millisecond))
	close(letRead)
	done.Wait()
	t.Logf("all have the version after %s", time.Since(came).Round(time.Millisecond))
}

// fetchFrom requests a blob from an offset, as host number i, which has its own address.
func (r *harness) fetchFrom(i int, d ident.Digest, offset int) (*http.Response, error) {
	cl := r.clientOf(nil, false)
	tr, ok := cl.Transport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("no transport: %T", cl.Transport)
	}
	tr.DisableKeepAlives = true
	tr.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/250), byte(1+i%250))}}).DialContext
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+r.addr+wire.ReleaseBlobPrefix+string(d), nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return cl.Do(req)
}

// fetchTail fetches the last 64 KiB, with retries. A real host retries with its timer,
// minutes later.
func (r *harness) fetchTail(i int, d ident.Digest, blob []byte) {
	from := len(blob) - 64<<10
	for range 10_000 {
		res, err := r.fetchFrom(i, d, from)
		if err != nil {
			r.t.Errorf("host %d retries: %v", i, err)
			return
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests {
			time.Sleep(time.Duration(i%97) * time.Millisecond) // jitter
			continue
		}
		if err != nil || res.StatusCode != http.StatusPartialContent || !bytes.Equal(b, blob[from:]) {
			r.t.Errorf("host %d got %d bytes with status %d, %v", i, len(b), res.StatusCode, err)
		}
		return
	}
	r.t.Errorf("host %d never gets it", i)
}
