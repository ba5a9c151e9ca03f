//go:build solo

package solo

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
)

const kills = 200

// TestKill_NothingLostNothingTwice kills a loaded receiver 200 times at random moments. Its
// clients retry each episode until it is accepted, as the shipper does. At the end each
// episode is stored once, as sent. SEED repeats the moments.
func TestKill_NothingLostNothingTwice(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", seed)
	moments := mathrand.New(mathrand.NewPCG(seed, 0))
	r := newHarness(t, "")
	// The same address after each restart.
	r.start()
	conf, err := os.ReadFile(r.path("receiver.toml"))
	must(t, err)
	r.write("receiver.toml", "listen = \""+r.addr+"\"\n"+withoutListen(string(conf)))

	var mu sync.Mutex
	acked, again := map[receiver.Key]ident.Digest{}, 0
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		h := r.enroll(ident.Host("lab-" + strconv.Itoa(i)))
		size := 2 << 10
		if i%4 == 3 {
			size = 2 << 20 // large bodies are synced on their own
		}
		clients.Go(func() {
			body := make([]byte, size)
			for {
				_, _ = rand.Read(body)
				id, digest := newID(), digestOf(body)
				for {
					status, err := h.put(id, body, digest)
					if err == nil && (status == http.StatusCreated || status == http.StatusOK) {
						mu.Lock()
						acked[receiver.Key{Host: h.name, Episode: id}] = digest
						if status == http.StatusOK {
							again++
						}
						mu.Unlock()
						break
					}
					if err == nil && status < 500 && status != http.StatusTooManyRequests {
						t.Errorf("answered %d", status)
						return
					}
					h.client.CloseIdleConnections()
					time.Sleep(5 * time.Millisecond)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(moments.Int64N(int64(250 * time.Millisecond))))
		r.kill()
		r.start()
	}
	close(stop)
	clients.Wait()
	r.stop()

	rows := r.rows()
	lost, doubled := 0, 0
	for k, digest := range acked {
		b, err := os.ReadFile(filepath.Join(r.path("data"), "episodes", string(k.Host), string(k.Episode)+".tar.zst"))
		if err != nil || digestOf(b) != digest || len(rows[k]) == 0 {
			t.Errorf("lost: %v, %d rows, %v", k, len(rows[k]), err)
			lost++
		}
	}
	for k, all := range rows {
		if len(all) > 1 {
			doubled++
		}
		if acked[k] != all[0].Digest {
			t.Errorf("row without an acknowledged upload: %v", k)
		}
	}
	left, err := filepath.Glob(r.path("data") + "/staged/*")
	must(t, err)
	t.Logf("%d kills, %d episodes, %d answered 200 at a retry; %d lost, %d doubled, %d staged names left", kills, len(acked), again, lost,
		doubled, len(left))
	if doubled > 0 || len(left) > 0 || len(rows) != len(acked) {
		t.Errorf("%d rows", len(rows))
	}
}

// withoutListen removes the listen line from a config.
func withoutListen(conf string) (out string) {
	for line := range strings.Lines(conf) {
		if !strings.HasPrefix(line, "listen") {
			out += line
		}
	}
	return out
}
