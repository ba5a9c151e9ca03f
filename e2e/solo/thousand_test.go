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

// TestThousandHosts_Fetch: a thousand hosts ask for a new version at the same
// moment. As many as there are places get it; the others are told at once when to
// come again, go on where they were, and all have it in the end. Episodes are
// taken meanwhile.
func TestThousandHosts_Fetch(t *testing.T) {
	const hosts, places = 1000, 16
	r := newRig(t, fmt.Sprintf("[rollout]\ndownloads = %d", places))
	blob := make([]byte, 24<<20) // more than the buffers of a connection hold
	_, _ = rand.Read(blob)
	digest := digestOf(blob)
	must(t, os.MkdirAll(r.path("data/releases/blobs"), 0o755))
	must(t, os.WriteFile(manifest.BlobPath(filepath.Join(r.dir, "data/releases"), digest), blob, 0o644))
	r.start()
	lab := r.enrol("lab-a")

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
	t.Logf("%d hosts have an answer after %s: %d are served, %d told to come again", hosts, time.Since(came).Round(time.Millisecond), served, refused)
	if served != places || refused != hosts-places {
		t.Errorf("%d served, %d refused, want %d and %d", served, refused, places, hosts-places)
	}
	began := time.Now()
	if status, err := lab.put(newID(), []byte("an episode"), digestOf([]byte("an episode"))); status != http.StatusCreated {
		t.Errorf("an episode meanwhile: %d %v", status, err)
	}
	t.Logf("an episode was taken meanwhile in %s", time.Since(began).Round(time.Millisecond))
	close(letRead)
	done.Wait()
	t.Logf("all have it after %s", time.Since(came).Round(time.Millisecond))
}

// fetchFrom asks for a blob from an offset on, as host number i: with an address
// of its own.
func (r *rig) fetchFrom(i int, d ident.Digest, offset int) (*http.Response, error) {
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

// fetchTail fetches what is missing, in as many tries as it takes. A real host
// comes again with its timer, minutes later.
func (r *rig) fetchTail(i int, d ident.Digest, blob []byte) {
	from := len(blob) - 64<<10
	for range 10_000 {
		res, err := r.fetchFrom(i, d, from)
		if err != nil {
			r.t.Errorf("host %d comes again: %v", i, err)
			return
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests {
			time.Sleep(time.Duration(i%97) * time.Millisecond) // jitter
			continue
		}
		if err != nil || res.StatusCode != http.StatusPartialContent || !bytes.Equal(b, blob[from:]) {
			r.t.Errorf("host %d has %d bytes of status %d, %v", i, len(b), res.StatusCode, err)
		}
		return
	}
	r.t.Errorf("host %d never gets it", i)
}
