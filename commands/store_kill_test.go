package commands_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/httpclient"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/objects/s3test"
)

var storeKills = flag.Int("store-kills", 0, "how often receiver or object store are killed")

// crowd are clients that send episodes until they are acknowledged, some ids with two
// contents at the same time.
type crowd struct {
	r      *site
	client *http.Client
	next   atomic.Int64

	mu      sync.Mutex
	acked   map[ident.EpisodeID]map[string]bool // digests
	answers map[int]int
}

func newCrowd(r *site) *crowd {
	return &crowd{r: r, client: r.client(30 * time.Second), acked: map[ident.EpisodeID]map[string]bool{}, answers: map[int]int{}}
}

// client is the client of the site's host.
func (r *site) client(total time.Duration) *http.Client {
	pair, err := tls.LoadX509KeyPair(r.path("certs/lab-host.pem"), r.path("certs/lab-host.pem"))
	r.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(r.read("certs/ca.crt")))
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	return httpclient.New(t, httpclient.Bounds{Total: total, Answer: wire.MaxAnswer})
}

func (c *crowd) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// run sends episodes until ctx ends; who has begun one goes on until it is decided.
func (c *crowd) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				id := ident.EpisodeID(fmt.Sprintf("01K%023d", c.next.Add(1)))
				var both sync.WaitGroup
				for i := range 1 + rand.IntN(8)/7 {
					both.Go(func() { c.send(id, fmt.Sprintf("%s %d %s", id, i, strings.Repeat("x", bodySize()))) })
				}
				both.Wait()
			}
		})
	}
	wg.Wait()
}

// bodySize returns a size in bytes: some bodies are sent to the store while they arrive.
func bodySize() int {
	if rand.IntN(6) == 0 {
		return 1<<20 + rand.IntN(3<<20)
	}
	return rand.IntN(100_000)
}

func (c *crowd) send(id ident.EpisodeID, content string) {
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	for {
		status := c.put(id, content, digest)
		c.mu.Lock()
		c.answers[status]++
		if status == http.StatusCreated || status == http.StatusOK {
			if c.acked[id] == nil {
				c.acked[id] = map[string]bool{}
			}
			c.acked[id][digest] = true
		}
		c.mu.Unlock()
		switch status {
		case http.StatusCreated, http.StatusOK, http.StatusConflict:
			return
		}
		time.Sleep(50 * time.Millisecond) // a client's pause
	}
}

// put returns the status, 0 if there was no answer.
func (c *crowd) put(id ident.EpisodeID, content, digest string) int {
	res, err := c.client.Do(c.r.upload(context.Background(), id, digest, strings.NewReader(content)))
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// TestStore_Killed kills receiver and object store under load: what was acknowledged has
// one row and its object, and no id has two contents.
func TestStore_Killed(t *testing.T) {
	if *storeKills == 0 {
		t.Skip("takes minutes: make crashtest, or -store-kills 20")
	}
	server := s3test.New(t)
	r := newStoreSite(t, server)
	c := newCrowd(r)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.run(ctx); close(done) }()
	for kill := range *storeKills {
		before, more := c.count(), 1+rand.IntN(10)
		r.until("episodes are taken", func() bool { return c.count() >= before+more })
		if kill%2 == 0 {
			_ = r.serving.Process.Kill()
			_ = r.serving.Wait()
			r.serve()
			if kill%4 == 0 { // from then on new episodes are not looked for in the bucket
				r.until("the bucket was listed", func() bool { _, err := r.run("store", "scrub", "--config", r.path("rx.toml")); return err == nil })
			}
			continue
		}
		server.Kill()
		r.must(server.Start())
	}
	stop()
	<-done
	r.stopServing()
	r.serve() // settles
	r.ready()
	r.until("claims are settled", func() bool {
		left, err := filepath.Glob(r.path("rx/puts/*"))
		return err == nil && (len(left) == 0 || settled(c, left))
	})
	c.check(t, server)
	r.mustRun("store", "verify", "--config", r.path("rx.toml"))
}

// settled reports whether all claims are of contents that lost: they end after an hour.
func settled(c *crowd, claims []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range claims {
		part := strings.Split(filepath.Base(path), ".")
		if len(c.acked[ident.EpisodeID(part[1])]) == 0 || c.acked[ident.EpisodeID(part[1])][part[2]] {
			return false
		}
	}
	return true
}

func (c *crowd) check(t *testing.T, server *s3test.Server) {
	t.Helper()
	rows := map[ident.EpisodeID][]string{}
	for line := range bytes.Lines([]byte(c.r.read("rx/index.jsonl"))) {
		var row struct {
			Episode ident.EpisodeID `json:"episode"`
			Digest  string          `json:"sha256"`
		}
		c.r.must(json.Unmarshal(line, &row))
		rows[row.Episode] = append(rows[row.Episode], row.Digest)
	}
	objects := map[string]bool{}
	all, err := filepath.Glob(filepath.Join(server.Dir, s3test.Bucket, "episodes", siteHost, "*"+wire.TarballSuffix))
	c.r.must(err)
	losers := 0
	for _, path := range all {
		part := strings.Split(filepath.Base(path), ".")
		objects[part[0]+part[1]] = true
		switch have := rows[ident.EpisodeID(part[0])]; {
		case len(have) == 0:
			t.Errorf("object without a row: %s", filepath.Base(path))
		case have[0] != part[1]:
			losers++
		}
	}
	for id, digests := range c.acked {
		if len(digests) != 1 {
			t.Errorf("%s was acknowledged with %d contents", id, len(digests))
		}
		for d := range digests {
			if len(rows[id]) != 1 || rows[id][0] != d || !objects[string(id)+d] {
				t.Errorf("%s was acknowledged as %s: rows %v, its object is there: %t", id, d, rows[id], objects[string(id)+d])
			}
		}
	}
	t.Logf("%d kills, %d episodes acknowledged, answers %v, %d rows, %d objects, %d of them lost",
		*storeKills, len(c.acked), c.answers, len(rows), len(all), losers)
}
