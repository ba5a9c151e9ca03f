//go:build solo

package solo

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// clusterKills is how many kills there are without KILLS.
const clusterKills = 8

// fleetOf is two receivers on one database and one object store, behind HAProxy.
type fleetOf struct {
	t        *testing.T
	store    *s3test.Server
	database *pgtest.Server
	name     string // of the database
	rx       [2]*harness
	front    string // HAProxy's address
}

// newCluster starts all parts. The receivers keep their addresses.
func newCluster(t *testing.T, conf string) *fleetOf {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("needs haproxy")
	}
	c := &fleetOf{t: t, database: pgtest.New(t)}
	c.name = c.database.Database(t)
	var first *harness
	first, c.store = newObjectHarness(t, conf)
	first.write("postgres", pgtest.URL(pgtest.ServeUser, c.database.Addr, c.name)+"\n")
	first.write("owner", pgtest.URL("postgres", c.database.Addr, c.name)+"\n")
	text, err := os.ReadFile(first.path("receiver.toml"))
	must(t, err)
	base := withoutListen(string(text)) + fmt.Sprintf("[ledger]\nbackend = \"postgres\"\nurl_file = %q\n", first.path("postgres"))
	second := &harness{t: t, dir: t.TempDir(), ca: first.ca, log: &bytes.Buffer{}}
	c.rx = [2]*harness{first, second}
	// The second one has copies of the authority's files, and its own server certificate.
	must(t, os.Mkdir(second.path("authority"), 0o755))
	cert, key := second.serverPair()
	second.write("authority/server.pem", cert+key)
	for i, r := range c.rx {
		r.addr = fmt.Sprintf("127.0.0.1:%d", 18971+i)
		text := strings.ReplaceAll(base, first.path("authority"), r.path("authority"))
		if i == 1 {
			text = strings.Replace(text, "[authority]\n", "[authority]\nelsewhere = true\n", 1)
		}
		r.write("receiver.toml", "listen = \""+r.addr+"\"\n"+strings.Replace(text, first.path("data"), r.path("data"), 1))
	}
	for _, args := range [][]string{{"ledger", "migrate", "--url-file", first.path("owner")}, {"store", "init"}} {
		if out, err := exec.Command("cis490", append(args, "--config", first.path("receiver.toml"))...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	for _, r := range c.rx {
		r.start()
		r.waitFor("it is ready", func() bool { return direct(r) })
	}
	c.balance()
	return c
}

// balance starts HAProxy.
func (c *fleetOf) balance() {
	c.t.Helper()
	c.front = "127.0.0.1:18970"
	r := c.rx[0]
	text := "global\n    stats socket " + r.path("haproxy.sock") + " mode 600\n" +
		"defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 5m\n    timeout server 5m\n    option redispatch\n    retries 3\n" +
		"listen receivers\n    bind " + c.front + "\n    balance roundrobin\n    option httpchk GET /healthz\n"
	for i, r := range c.rx {
		text += fmt.Sprintf("    server rx%d %s send-proxy-v2 check check-ssl verify none inter 500ms fall 2 rise 1\n", i, r.addr)
	}
	r.write("haproxy.cfg", text)
	haproxy := exec.Command("haproxy", "-db", "-f", r.path("haproxy.cfg"))
	haproxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(c.t, haproxy.Start())
	c.t.Cleanup(func() { _ = haproxy.Process.Kill(); _ = haproxy.Wait() })
	r.waitFor("HAProxy listens", func() bool {
		conn, err := net.Dial("tcp", c.front)
		return err == nil && conn.Close() == nil
	})
}

// direct reports whether a receiver is ready, asked from another address than HAProxy's.
func direct(r *harness) bool {
	client := r.clientOf(nil, false)
	client.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext
	res, err := client.Get("https://" + r.addr + "/readyz")
	if err != nil {
		return false
	}
	body, err := io.ReadAll(res.Body)
	r.answer = string(body)
	return errors.Join(err, res.Body.Close()) == nil && res.StatusCode == http.StatusOK
}

// client returns a host that sends through HAProxy.
func (c *fleetOf) client(name ident.Host) *host {
	c.t.Helper()
	h := c.rx[0].enroll(name)
	front := *c.rx[0]
	front.addr = c.front
	h.r = &front
	c.rx[0].waitFor("the second receiver has the roster", c.copied)
	return h
}

// copied reports whether the second receiver has the roster.
func (c *fleetOf) copied() bool {
	a, _ := os.ReadFile(c.rx[0].path("authority/" + local.RosterFile))
	b, err := os.ReadFile(c.rx[1].path("authority/" + local.RosterFile))
	return err == nil && bytes.Equal(a, b)
}

// acks are the final answers that clients got.
type acks struct {
	mu     sync.Mutex
	stored map[receiver.Key]map[ident.Digest]bool // answered 201 or 200
	again  int                                    // 200
	other  int                                    // 409
	failed []string                               // tries that were not answered so
}

// send sends an episode until the answer is final.
func (a *acks) send(t *testing.T, h *host, id ident.EpisodeID, body []byte) {
	digest := digestOf(body)
	for {
		status, err := h.put(id, body, digest)
		a.mu.Lock()
		final := err == nil && status < 500 && status != http.StatusTooManyRequests
		switch k := (receiver.Key{Host: h.name, Episode: id}); {
		case !final:
			a.failed = append(a.failed, fmt.Sprint(time.Now().Format("15:04:05.000 "), status, " ", err))
		case status == http.StatusCreated, status == http.StatusOK:
			if a.stored[k] == nil {
				a.stored[k] = map[ident.Digest]bool{}
			}
			a.stored[k][digest] = true
			if status == http.StatusOK {
				a.again++
			}
		case status == http.StatusConflict:
			a.other++
		default:
			t.Errorf("%s/%s: answered %d", h.name, id, status)
		}
		a.mu.Unlock()
		if final {
			return
		}
		h.client.CloseIdleConnections()
		time.Sleep(20 * time.Millisecond) // as a host waits
	}
}

// load sends episodes from several hosts until stop is called: of eight, one twice at once and one
// with two contents at once. Each host has two clients.
func (c *fleetOf) load(hosts int) (a *acks, stop func()) {
	a = &acks{stored: map[receiver.Key]map[ident.Digest]bool{}}
	end := make(chan struct{})
	var clients sync.WaitGroup
	for i := range hosts {
		name := ident.Host("lab-" + strconv.Itoa(i))
		one := c.client(name)
		two := *one
		two.client = one.r.clientOf(one.pair, false)
		clients.Go(func() {
			body, other := make([]byte, 4<<10), make([]byte, 4<<10)
			for n := 0; ; n++ {
				_, _ = rand.Read(body)
				_, _ = rand.Read(other)
				id := newID()
				var both sync.WaitGroup
				switch n % 8 {
				case 3:
					both.Go(func() { a.send(c.t, &two, id, body) })
				case 6:
					both.Go(func() { a.send(c.t, &two, id, other) })
				}
				a.send(c.t, one, id, body)
				both.Wait()
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	return a, func() { close(end); clients.Wait() }
}

// check compares what was acknowledged with the rows and the objects.
func (c *fleetOf) check(a *acks) {
	c.t.Helper()
	rows := map[receiver.Key]string{}
	out := c.database.SQL(c.t, c.name, "SELECT host, episode, key FROM episode_index")
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 {
			c.t.Fatalf("row %q", line)
		}
		k := receiver.Key{Host: ident.Host(f[0]), Episode: ident.EpisodeID(f[1])}
		if rows[k] != "" {
			c.t.Errorf("%v has two rows", k)
		}
		rows[k] = f[2]
	}
	lost, two, damaged := 0, 0, 0
	for k, digests := range a.stored {
		if len(digests) > 1 {
			two++
		}
		for d := range digests {
			if !strings.Contains(rows[k], "."+string(d)+".") {
				lost++
				continue
			}
			content, err := os.ReadFile(filepath.Join(c.store.Dir, s3test.Bucket, rows[k]))
			if err != nil || digestOf(content) != d {
				damaged++
			}
		}
	}
	c.t.Logf("%d episodes acknowledged, %d answers 200, %d answers 409, %d retries, %d rows",
		len(a.stored), a.again, a.other, len(a.failed), len(rows))
	if lost+two+damaged > 0 || len(a.stored) == 0 {
		c.t.Errorf("acknowledged: %d without their row, %d with two contents, %d without their object", lost, two, damaged)
	}
}

// TestCluster_Kills kills each part of a cluster under load, at random moments: each answer is true.
// KILLS is their number, SEED repeats their order.
func TestCluster_Kills(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("KILLS"))
	if err != nil {
		n = clusterKills
	}
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d KILLS=%d", seed, n)
	moments := mathrand.New(mathrand.NewPCG(seed, 0))
	c := newCluster(t, "[balancer]\nfrom = [\"127.0.0.1\"]")
	a, stop := c.load(6)
	var count [4]int
	for i := range n {
		time.Sleep(time.Duration(200+moments.IntN(800)) * time.Millisecond) // the moment is the test
		part := moments.IntN(4)
		if i < 4 {
			part = i // each at least once
		}
		switch count[part]++; part {
		case 0, 1:
			c.rx[part].kill()
			c.rx[part].start()
		case 2:
			c.store.Kill()
			must(t, c.store.Start())
		case 3:
			c.database.Kill()
			must(t, c.database.Start())
		}
	}
	before := a.final()
	c.rx[0].waitFor("episodes are acknowledged after the last kill", func() bool { return a.final() > before+50 })
	stop()
	t.Logf("kills: %d and %d of the receivers, %d of the store, %d of the database", count[0], count[1], count[2], count[3])
	c.check(a)
}

// final returns how many episodes were acknowledged.
func (a *acks) final() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.stored)
}

// TestCluster_RollingRestart restarts both receivers, one after the other, under load: no upload
// fails.
func TestCluster_RollingRestart(t *testing.T) {
	c := newCluster(t, "[balancer]\nfrom = [\"127.0.0.1\"]\ndrain = \"5s\"")
	a, stop := c.load(4)
	for _, r := range c.rx {
		before := a.final()
		r.waitFor("episodes are acknowledged", func() bool { return a.final() > before+50 })
		t.Logf("%s stop", time.Now().Format("15:04:05.000"))
		r.stop()
		t.Logf("%s start", time.Now().Format("15:04:05.000"))
		r.start()
		r.waitFor("it is ready", func() bool { return direct(r) })
		r.waitFor("HAProxy uses it", func() bool { return !strings.Contains(ask(t, c.rx[0].path("haproxy.sock"), "show stat\n"), "DOWN") })
	}
	stop()
	c.check(a)
	if n := len(a.failed); n > 0 {
		t.Errorf("%d tries failed, such as %s", n, strings.Join(a.failed[:min(n, 10)], "\n"))
	}
}

// TestCluster_Failover kills the database under load and promotes its synchronous standby. Nobody
// touches the receivers, whose URL names both servers.
func TestCluster_Failover(t *testing.T) {
	c := newCluster(t, "[balancer]\nfrom = [\"127.0.0.1\"]")
	standby := c.database.Standby(t)
	c.database.Wait(t)
	both := pgtest.URL(pgtest.ServeUser, c.database.Addr+","+standby.Addr, c.name)
	c.rx[0].write("postgres", both+"\n")
	a, stop := c.load(4)
	wait := func(what string) {
		t.Helper()
		before := a.final()
		c.rx[0].waitFor(what, func() bool { return a.final() > before+100 })
	}
	wait("episodes are acknowledged")
	c.database.Kill()
	standby.Promote(t)
	promoted := time.Now()
	before := a.final()
	c.rx[0].waitFor("an episode is acknowledged after the promotion", func() bool { return a.final() > before })
	t.Logf("acknowledged again %s after the promotion", time.Since(promoted).Round(10*time.Millisecond))
	wait("episodes are acknowledged after the promotion")
	stop()
	for _, r := range c.rx {
		r.waitFor("it is ready", func() bool { return direct(r) })
	}
	c.database = standby
	c.check(a)
}
