//go:build e2e

package solo

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
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

// TestUnknownClients_TakeNothingFromHosts attacks the receiver in every way at once, from 2
// and from 100 addresses, for CIS490_ATTACK_FOR (20 s by default). Ten hosts ship meanwhile,
// over old and new connections, and wait 2 s at most. The receiver needs at most 128 MiB,
// logs few lines, and its metrics and page show the attack.
func TestUnknownClients_TakeNothingFromHosts(t *testing.T) {
	for _, addresses := range []int{2, 100} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			r := newHarness(t, "")
			r.start()
			attackReceiver(t, r, addresses)
		})
	}
}

// TestUnknownClients_Authority attacks the authority in the same way. It needs at most
// 64 MiB, and answers new clients.
func TestUnknownClients_Authority(t *testing.T) {
	for _, addresses := range []int{2, 100} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			r := newHarness(t, "")
			r.role = "bootstrap"
			r.write("receiver.toml", fmt.Sprintf("public_url = \"https://localhost:8443\"\ndata_dir = %q\n"+
				"[authority]\nlisten = \"127.0.0.1:0\"\nurl = \"https://127.0.0.1:1\"\ndir = %q\nsocket = %q\n",
				r.path("data"), r.path("issuer"), r.path("admin.sock")))
			r.start()
			plan := attack.Plan{Addr: r.addr, Get: "/v1/ca", Post: "/v1/cert/lab-01"}
			attackWhile(t, r, plan, addresses, 64, func(i int) func() error {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(i+1))}}
				unknown := &http.Client{Transport: &http.Transport{
					DialContext: d.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				}, Timeout: time.Minute}
				return func() error {
					res, err := unknown.Get("https://" + r.addr + "/v1/ca")
					if err == nil {
						_ = res.Body.Close()
					}
					return err
				}
			})
		})
	}
}

func attackReceiver(t *testing.T, r *harness, addresses int) {
	t.Helper()
	plan := attack.Plan{Addr: r.addr, Get: "/sign-in", Post: "/v1/ping", Form: "/sign-in"}
	attackWhile(t, r, plan, addresses, 128, func(i int) func() error {
		h, n, body := r.enroll(ident.Host(fmt.Sprintf("lab-%02d", i))), 0, []byte("an episode")
		return func() error {
			if n++; n%3 == 0 {
				h.client.CloseIdleConnections()
			}
			status, err := h.put(newID(), body, digestOf(body))
			if err == nil && status != http.StatusCreated {
				err = fmt.Errorf("answered %d", status)
			}
			return err
		}
	})
	for path, want := range map[string]string{"/metrics": `cis490_connections_evicted_total{state="unverified"}`, "/": "Unknown clients: "} {
		page := operatorGet(t, r, path)
		if !strings.Contains(page, want) || strings.Contains(page, want+" 0\n") {
			t.Errorf("%s does not show the attack: %.3000s", path, page)
		}
	}
}

// attackWhile runs ten clients in a loop while a plan runs, and checks answer times, memory
// in MiB and log lines.
func attackWhile(t *testing.T, r *harness, plan attack.Plan, addresses, memory int, client func(i int) func() error) {
	t.Helper()
	var err error
	plan.For, err = time.ParseDuration(cmp.Or(os.Getenv("CIS490_ATTACK_FOR"), "20s"))
	must(t, err)
	plan.Workers = 150
	if only := os.Getenv("CIS490_ATTACK_ONLY"); only != "" {
		plan.Only = strings.Split(only, ",")
	}
	for i := range addresses {
		plan.From = append(plan.From, fmt.Sprintf("127.0.2.%d", i+1))
	}
	cmd, err := plan.Arm(exec.Command(os.Args[0]))
	must(t, err)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()

	var mu sync.Mutex
	var slowest time.Duration
	asked := 0
	var clients sync.WaitGroup
	for i := range 10 {
		ask := client(i)
		clients.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(100 * time.Millisecond):
				}
				began := time.Now()
				err := ask()
				took := time.Since(began)
				if err != nil {
					t.Errorf("client %d, after %s: %v", i, took, err)
				}
				mu.Lock()
				slowest, asked = max(slowest, took), asked+1
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	peak, lines := r.statusKiB("VmHWM")>>10, strings.Count(r.log.String(), "\n")
	t.Logf("%d addresses, %s: %d answers, the slowest took %s; peak memory %d MiB; %d lines in the log; attempts:\n%s",
		addresses, plan.For, asked, slowest.Round(time.Millisecond), peak, lines, out.String())
	if slowest > 2*time.Second {
		t.Errorf("an answer took %s", slowest)
	}
	if peak > memory {
		t.Errorf("peak memory is %d MiB", peak)
	}
	if lines > 100+int(plan.For.Seconds()) {
		t.Errorf("%d lines were logged", lines)
	}
}

// operatorGet requests a page with the operator token.
func operatorGet(t *testing.T, r *harness, path string) string {
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
