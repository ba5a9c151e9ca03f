//go:build e2e

package solo

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/e2e/attack"
	"cis490/internal/ident"
)

// TestUnknownClients_TakeNothingFromHosts: every kind of attack at once, from 2 and
// from 100 addresses (for CIS490_ATTACK_FOR, 20 s by default). Ten hosts ship all the
// while, over connections that are kept and over new ones, and wait 2 s at most; the
// receiver stays within 128 MiB, writes few lines, and shows what goes on.
func TestUnknownClients_TakeNothingFromHosts(t *testing.T) {
	for _, addresses := range []int{2, 100} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			r := newRig(t, "")
			r.start()
			attacked(t, r, addresses)
		})
	}
}

func attackTime(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("CIS490_ATTACK_FOR"), "20s"))
	must(t, err)
	return d
}

func attacked(t *testing.T, r *rig, addresses int) {
	t.Helper()
	plan := attack.Plan{Addr: r.addr, For: attackTime(t), Workers: 150, Get: "/sign-in", Post: "/v1/ping", Form: "/sign-in"}
	if only := os.Getenv("CIS490_ATTACK_ONLY"); only != "" {
		plan.Only = strings.Split(only, ",")
	}
	for i := range addresses {
		plan.From = append(plan.From, fmt.Sprintf("127.0.2.%d", i+1))
	}
	cmd, err := plan.Arm(exec.Command(os.Args[0]))
	must(t, err)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	over := make(chan struct{})
	go func() { _ = cmd.Wait(); close(over) }()

	var mu sync.Mutex
	var slowest time.Duration
	puts := 0
	var hosts sync.WaitGroup
	for i := range 10 {
		h := r.enrol(ident.Host(fmt.Sprintf("lab-%02d", i)))
		hosts.Go(func() {
			body := []byte("an episode")
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Millisecond):
				}
				if n%3 == 0 {
					h.client.CloseIdleConnections()
				}
				began := time.Now()
				status, err := h.put(newID(), body, digestOf(body))
				took := time.Since(began)
				if err != nil || status != http.StatusCreated {
					t.Errorf("%s: answered %d after %s: %v", h.name, status, took, err)
				}
				mu.Lock()
				slowest, puts = max(slowest, took), puts+1
				mu.Unlock()
			}
		})
	}
	hosts.Wait()
	peak := r.status("VmHWM") >> 10
	t.Logf("%d addresses, %s: %d uploads, the slowest took %s; peak memory %d MiB; %d lines in the log; attempts:\n%s",
		addresses, plan.For, puts, slowest.Round(time.Millisecond), peak, strings.Count(r.log.String(), "\n"), said.String())
	if slowest > 2*time.Second {
		t.Errorf("an upload took %s", slowest)
	}
	if peak > 128 {
		t.Errorf("peak memory is %d MiB", peak)
	}
	if n := strings.Count(r.log.String(), "\n"); n > 100+int(plan.For.Seconds()) {
		t.Errorf("%d lines were logged", n)
	}
	for path, want := range map[string]string{"/metrics": `cis490_connections_evicted_total{state="unverified"}`, "/": "Unknown clients: "} {
		page := operatorGet(t, r, path)
		if !strings.Contains(page, want) || strings.Contains(page, want+" 0\n") {
			t.Errorf("%s does not show the attack: %.3000s", path, page)
		}
	}
}

// operatorGet returns a page that needs the operator token.
func operatorGet(t *testing.T, r *rig, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addr+path, nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer secret")
	res, err := r.clientOf(nil, false).Do(req)
	must(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return string(b)
}
