//go:build solo

package solo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// scaleFor is how long each fleet is simulated, the largest for SCALE, a duration.
const scaleFor = 30 * time.Second

// pace is how often each host pings, and sends an episode. Two cores carry no more from 20,000
// hosts.
const pace = 5 * time.Minute

// TestBench_ClusterScale simulates three fleets on two receivers, one database, one store and
// HAProxy. A host opens a new connection for each request, because there are fewer places than
// hosts. All parts and the hosts share this machine.
func TestBench_ClusterScale(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("SCALE"))
	if err != nil {
		long = scaleFor
	}
	c := newCluster(t, "[balancer]\nfrom = [\"127.0.0.1\"]\n[limits]\nuploads = 1024")
	first := c.client("lab-00000")
	if status, err := first.put(idNow(), []byte("body"), digestOf([]byte("body"))); err != nil || status != http.StatusCreated {
		t.Fatalf("answered %d, %v", status, err)
	}
	// The catalogues skip older rows, whose tarballs do not exist.
	c.rx[0].waitFor("both have catalogued it", func() bool { return c.catalogued(0) == 1 && c.catalogued(1) == 1 })
	hosts := []*host{first}
	rows := 0
	for _, size := range []struct {
		hosts, rows int
		long        time.Duration
	}{{5000, 1_000_000, scaleFor}, {10_000, 3_000_000, scaleFor}, {20_000, 10_000_000, long}} {
		c.stop()
		c.history(rows, size.rows)
		rows = size.rows
		hosts = c.grow(hosts, size.hosts)
		c.restart()
		c.simulate(fmt.Sprintf("ClusterScale/hosts=%d/rows=%dM", size.hosts, rows/1_000_000), hosts, size.long)
	}
}

// catalogued returns how many episodes a receiver's catalogue has.
func (c *fleetOf) catalogued(i int) int {
	body, _, err := c.page(i, wire.EpisodesPath)
	if err != nil {
		return -1
	}
	return bytes.Count(body, []byte(`"episode"`))
}

func (c *fleetOf) stop() {
	for _, r := range c.rx {
		r.stop()
	}
}

func (c *fleetOf) restart() {
	c.t.Helper()
	for _, r := range c.rx {
		began := time.Now()
		r.start()
		r.waitFor("it is ready", func() bool { return direct(r) })
		c.t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	}
	c.rx[0].waitFor("HAProxy uses both", func() bool {
		return strings.Count(ask(c.t, c.rx[0].path("haproxy.sock"), "show stat\n"), ",UP,") >= 2
	})
	c.rx[0].waitFor("the second receiver has the roster", c.copied)
}

// history adds rows of 20,000 hosts, between two numbers of rows, to the database: older than
// a day, and at a position before those that the receivers have read.
func (c *fleetOf) history(from, to int) {
	c.t.Helper()
	const hosts = 20_000
	for slot := from / hosts; slot < to/hosts; slot++ {
		at := time.Now().Add(-25*time.Hour - time.Duration(slot)*time.Hour).UTC()
		c.database.SQL(c.t, c.name, fmt.Sprintf("INSERT INTO episodes (host, episode, sha256, size, code_commit, received_at, pos) "+
			"SELECT 'lab-'||lpad(h::text,5,'0'), '%s'||lpad(h::text,16,'0'), sha256(('%d.'||h)::bytea), 4096, '\\x%s', "+
			"'%s'::timestamptz + h*interval '100 ms', 0 FROM generate_series(0,%d) h",
			timeOf(at), slot, commit, at.Format(time.RFC3339), hosts-1))
	}
	c.database.SQL(c.t, c.name, "ANALYZE")
}

// grow enrolls hosts until there are n. Each has an address of its own.
func (c *fleetOf) grow(hosts []*host, n int) []*host {
	for i := len(hosts); i < n; i++ {
		h := c.rx[0].enroll(ident.Host(fmt.Sprintf("lab-%05d", i)))
		front := *c.rx[0]
		front.addr = c.front
		h.r = &front
		tr := h.client.Transport.(*http.Transport)
		tr.DisableKeepAlives = true
		tr.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(i))}}).DialContext
		hosts = append(hosts, h)
	}
	return hosts
}

// simulate runs the hosts for a while, and asks the receivers as people do.
func (c *fleetOf) simulate(name string, hosts []*host, long time.Duration) {
	ctx, cancel := context.WithTimeout(c.t.Context(), long)
	defer cancel()
	var stored, pings, failed atomic.Int64
	var running sync.WaitGroup
	every := func(n float64, do func(i int) error) { // n times a second
		running.Go(func() {
			tick := time.NewTicker(time.Duration(float64(time.Second) / n))
			defer tick.Stop()
			var inner sync.WaitGroup
			defer inner.Wait()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				inner.Go(func() {
					if err := do(i % len(hosts)); err != nil {
						if failed.Add(1) < 5 {
							c.t.Log(err)
						}
					}
				})
			}
		})
	}
	before := cpuOf()
	began := time.Now()
	every(float64(len(hosts))/pace.Seconds(), func(i int) error {
		body := make([]byte, smallBody)
		_, _ = rand.Read(body)
		status, err := hosts[i].put(idNow(), body, digestOf(body))
		if err != nil || status != http.StatusCreated {
			return fmt.Errorf("upload answered %d, %w", status, err)
		}
		stored.Add(1)
		return nil
	})
	every(float64(len(hosts))/pace.Seconds(), func(i int) error {
		if err := hosts[i].ping("1.0"); err != nil {
			return err
		}
		pings.Add(1)
		return nil
	})
	var pages, checks, ages []float64
	tick := time.NewTicker(10 * time.Second) // fleet-check runs once a minute, people look now and then
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		_, took, err := c.page(n%2, "/")
		must(c.t, err)
		pages = append(pages, took.Seconds()*1e3)
		began := time.Now()
		out, err := exec.Command("cis490", "fleet-check", "--dry-run", "--config", c.rx[0].path("receiver.toml")).CombinedOutput()
		if code := exitCode(err); code > 2 {
			c.t.Fatalf("fleet-check: %v: %.2000s", err, out)
		}
		checks = append(checks, time.Since(began).Seconds())
		ages = append(ages, c.age(hosts[n%len(hosts)], n).Seconds())
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	running.Wait()
	spent, seconds := cpuOf(), time.Since(began).Seconds()
	figure(c.t, name, float64(stored.Load())/seconds, "episodes/s", float64(pings.Load())/seconds, "pings/s",
		float64(failed.Load()), "failed", median(pages), "ms-page", median(checks), "s-fleet-check", slices.Max(ages), "s-contact-age-max")
	for _, program := range []string{"cis490", "postgres", "versitygw", "haproxy", "solo.test"} {
		figure(c.t, name+"/cpu="+program, 100*(spent[program]-before[program]).Seconds()/seconds, "%-of-a-core")
	}
	if failed.Load() > 0 {
		c.t.Errorf("%s: %d requests failed", name, failed.Load())
	}
	if n := len(c.database.SQL(c.t, c.name, "SELECT 1 FROM episodes GROUP BY host, episode HAVING count(*) > 1 LIMIT 1")); n > 0 {
		c.t.Error("an episode has two rows")
	}
}

// page gets a page of a receiver, as an operator.
func (c *fleetOf) page(i int, path string) (body []byte, took time.Duration, err error) {
	client := c.rx[i].clientOf(nil, false)
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext
	req, err := http.NewRequest(http.MethodGet, "https://"+c.rx[i].addr+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer secret")
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	body, err = io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", path, res.Status, body)
	}
	return body, time.Since(began), err
}

// age returns how long a ping to one of the receivers took to be seen on the other's page.
func (c *fleetOf) age(h *host, n int) time.Duration {
	direct := *h
	direct.r = c.rx[n%2]
	tr := h.client.Transport.(*http.Transport).Clone()
	tr.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}).DialContext
	direct.client = &http.Client{Transport: tr}
	version := "fresh-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	must(c.t, direct.ping(version))
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond) // pages must not be the load
	defer tick.Stop()
	for range 120 {
		<-tick.C
		if body, _, err := c.page(1-n%2, "/hosts/"+string(h.name)); err == nil && bytes.Contains(body, []byte(version)) {
			break
		}
	}
	return time.Since(began)
}

func (h *host) ping(version string) error {
	b, err := json.Marshal(wire.Ping{Version: version, Commit: commit, BootID: "x", Clock: time.Now(), OS: "linux", Arch: "amd64"})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "https://"+h.r.addr+wire.PingPath, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer bearer-"+string(h.name))
	res, err := h.client.Do(req)
	if err != nil {
		return err
	}
	text, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ping answered %d %s", res.StatusCode, text)
	}
	return nil
}

// timeOf returns the first ten characters of a ULID of a time.
func timeOf(at time.Time) string {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [10]byte
	for i, ms := 9, at.UnixMilli(); i >= 0; i, ms = i-1, ms/32 {
		b[i] = letters[ms%32]
	}
	return string(b[:])
}

// idNow returns a new id of this moment.
func idNow() ident.EpisodeID { return ident.EpisodeID(timeOf(time.Now())) + newID()[10:] }

// cpuOf returns the processor time of the programs that this test has started and of itself.
func cpuOf() map[string]time.Duration {
	all := map[string]time.Duration{}
	entries, _ := os.ReadDir("/proc")
	parents, names, spent := map[int]int{}, map[int]string{}, map[int]time.Duration{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if name, parent, cpu, err := stat(pid); err == nil {
			names[pid], parents[pid], spent[pid] = name, parent, cpu
		}
	}
	for pid := range names {
		for at := pid; at > 1; at = parents[at] {
			if at == os.Getpid() {
				all[names[pid]] += spent[pid]
				break
			}
		}
	}
	return all
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if x, ok := err.(*exec.ExitError); ok { //nolint:errorlint // of Run itself
		return x.ExitCode()
	}
	return 100
}
