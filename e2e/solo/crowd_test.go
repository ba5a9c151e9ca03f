//go:build e2e

package solo

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrowd_NobodyIsKeptOut: four addresses open ten thousand connections, send nothing and
// keep them open. Hosts can still upload over new connections, and memory stays below
// 200 MiB. The same holds with few file descriptors.
func TestCrowd_NobodyIsKeptOut(t *testing.T) {
	t.Run("10,000", func(t *testing.T) {
		r := holdConnections(t, nil, 4000, 2000, 2000, 2000)
		peak := r.statusKiB("VmHWM") >> 10
		t.Logf("peak memory %d MiB", peak)
		if peak > 200 {
			t.Errorf("peak memory is %d MiB", peak)
		}
	})
	t.Run("few descriptors", func(t *testing.T) {
		holdConnections(t, []string{"sh", "-c", `ulimit -n 640; exec "$@"`, "sh"}, 800, 800)
	})
}

// holdConnections starts a receiver and opens n connections from the i-th address for each
// n in from, while a host uploads.
func holdConnections(t *testing.T, wrap []string, from ...int) *harness {
	t.Helper()
	r := newHarness(t, "")
	r.wrap = wrap
	r.start()
	h := r.enroll("lab-a")
	body := []byte("body")
	put := func(n int) {
		t.Helper()
		for range n {
			began := time.Now()
			h.client.CloseIdleConnections()
			if status, err := h.put(newID(), body, digestOf(body)); err != nil || status != http.StatusCreated {
				t.Errorf("answered %d, %v", status, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("answered after %s", took)
			}
		}
	}
	put(1)
	var mu sync.Mutex
	var held []net.Conn
	t.Cleanup(func() {
		for _, c := range held {
			_ = c.Close()
		}
	})
	var callers sync.WaitGroup
	for i, n := range from {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}, Timeout: 20 * time.Second}
		for range 8 {
			callers.Go(func() {
				for range n / 8 {
					c, err := d.Dial("tcp", r.addr)
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					mu.Lock()
					held = append(held, c)
					mu.Unlock()
				}
			})
		}
	}
	began := time.Now()
	put(5) // while connections are being opened
	callers.Wait()
	t.Logf("opened %d connections within %s", len(held), time.Since(began).Round(time.Millisecond))
	put(20)
	if !strings.Contains(r.log.String(), "too many connections") {
		t.Errorf("the log does not report too many connections: %s", r.log)
	}
	return r
}
