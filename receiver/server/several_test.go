package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cis490/internal/clock"
	"cis490/internal/wire"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
	"cis490/receiver/s3"
)

// several makes two receivers on one database and one bucket, of one authority.
func several(t *testing.T, change ...func(*harness)) (a, b *harness) {
	t.Helper()
	store, database := s3test.New(t), pgtest.New(t)
	name := database.Database(t)
	_, _, err := pg.Migrate(t.Context(), pgtest.URL("postgres", database.Addr, name), pgtest.ServeUser, "")
	must(t, err)
	url := filepath.Join(t.TempDir(), "postgres")
	must(t, os.WriteFile(url, []byte(pgtest.URL(pgtest.ServeUser, database.Addr, name)+"\n"), 0o600))
	bucket, err := objects.Open(s3test.Options(store.Addr))
	must(t, err)
	shared := append([]func(*harness){func(r *harness) { r.database, r.bucket, r.store = url, bucket, store }}, change...)
	a = newHarness(t, append(shared, func(r *harness) {
		id, err := r.backend().Rows.ID()
		must(t, err)
		must(t, s3.Mark(t.Context(), bucket, id, time.Now()))
	})...)
	b = newHarness(t, append([]func(*harness){func(r *harness) {
		r.ca, r.config.Authority.Dir = a.ca, a.config.Authority.Dir
	}}, shared...)...)
	return a, b
}

// at returns the host as a client of another receiver.
func (h *host) at(r *harness) *host {
	other := *h
	other.r, other.client = r, r.clientOf(h.pair)
	return &other
}

func (h *host) pong(t *testing.T, p wire.Ping) (pong wire.Pong) {
	t.Helper()
	body, err := json.Marshal(p)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.r.url(wire.PingPath), bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+h.bearer)
	req.Header.Set("Content-Type", wire.ContentTypeJSON)
	res, err := h.client.Do(req)
	must(t, err)
	content, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	if err := json.Unmarshal(content, &pong); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("ping: %d %s", res.StatusCode, content)
	}
	return pong
}

// TestSeveral: two receivers give a host the same answers.
func TestSeveral(t *testing.T) {
	a, b := several(t, func(r *harness) { r.config.Limits.HostQuota = 250 << 10 })
	atA := a.enrol("lab-a")
	atB := atA.at(b)
	put := func(what string, h *host, req *http.Request, want int) {
		t.Helper()
		if status, _, detail := h.do(req); status != want {
			t.Errorf("%s: %d %s, want %d", what, status, detail, want)
		}
	}
	put("a new episode", atA, atA.request(ep1, "one"), 201)
	put("the same at the other one", atB, atB.request(ep1, "one"), 200)
	put("another content", atB, atB.request(ep1, "two"), 409)

	// What one of them accepts, both accept.
	commit := func(r *http.Request) { r.Header.Set(wire.HeaderCommit, string(other)) }
	put("an unknown commit", atB, atB.request(ep2, "one", commit), 412)
	before := atB.pong(t, wire.Ping{Commit: other})
	a.gate("extra_commits = [\"" + string(other) + "\"]\n")
	a.eventually("both accept the commit", func() bool {
		x, y := atA.pong(t, wire.Ping{Commit: other}), atB.pong(t, wire.Ping{Commit: other})
		return x.Gate.Accepted && y.Gate.Accepted && x.Policy == y.Policy && x.Policy != before.Policy && x.StoreID == y.StoreID
	})
	put("a commit of the other one", atB, atB.request(ep2, "one", commit), 201)
	members, err := cluster.Read(a.backend().Peers)
	if err != nil || len(members) != 2 || !members[0].Ready || !members[1].Ready {
		t.Errorf("members: %+v, %v", members, err)
	}
	if found := cluster.Differences(members); len(found) != 1 || found[0].Setting != "[gate]" {
		t.Errorf("differences: %+v", found)
	}

	// What one of them hears, both know.
	atA.pong(t, wire.Ping{Version: "v7", Commit: own, Clock: time.Now()})
	b.eventually("the other one knows of the ping", func() bool {
		c := b.contacts(t).Hosts["lab-a"]
		return c != nil && c.Version == "v7"
	})
	// The quota is one.
	put("over half of the quota", atA, atA.request(ep3, large+large), 201)
	wrong := func(r *http.Request) { r.Header.Set(wire.HeaderDigest, string(digestOf(nil))) } // nothing is stored
	b.eventually("the other one counts it", func() bool {
		_, kind, _ := atB.do(atB.request("01ARZ3NDEKTSV4RRFFQ69G5FA4", large, wrong))
		return kind == wire.Quota
	})

	// One of them alone goes on.
	a.stop()
	members, err = cluster.Read(b.backend().Peers)
	if err != nil || len(members) != 2 || !slices.ContainsFunc(members, func(m cluster.Member) bool { return m.State() == "stopping" }) {
		t.Errorf("members after one of them stopped: %+v, %v", members, err)
	}
	put("after one of them stopped", atB, atB.request("01ARZ3NDEKTSV4RRFFQ69G5FA5", "one"), 201)
	if c := b.contacts(t); len(c.Receiver.Outages) > 0 && c.Receiver.Outages[len(c.Receiver.Outages)-1].To.IsZero() {
		t.Errorf("one receiver of two is away: %+v", c.Receiver)
	}
}

// TestSeveral_Elsewhere: a host that one receiver cannot serve tries again soon, on a new
// connection, which a balancer may pass to another receiver.
func TestSeveral_Elsewhere(t *testing.T) {
	var proxy *s3test.Proxy // before the second one's store
	made := 0
	a, b := several(t, func(r *harness) {
		if made++; made == 1 {
			return
		}
		proxy = s3test.NewProxy(t, r.store)
		bucket, err := objects.Open(s3test.Options(proxy.Addr))
		must(t, err)
		r.bucket = bucket
	})
	atB := a.enrol("lab-a").at(b)
	proxy.Break(1, s3test.Refuse)
	atB.turnedAway(t)
	if status, _, _ := atB.do(b.get(wire.ReadyzPath)); status != 503 {
		t.Errorf("afterwards /readyz is %d", status)
	}
}

// TestSeveral_DatabaseIsSilent: an upload that waits for a database behind a network that drops
// all packets is answered while the receiver still waits, and so is the next one.
func TestSeveral_DatabaseIsSilent(t *testing.T) {
	var between *pgtest.Hole // before the second one's database
	made := 0
	a, b := several(t, func(r *harness) {
		if made++; made == 1 {
			return
		}
		url, err := os.ReadFile(r.database)
		must(t, err)
		u, err := neturl.Parse(strings.TrimSpace(string(url)))
		must(t, err)
		between = pgtest.NewHole(t, u.Host)
		u.Host = between.Addr
		r.database = filepath.Join(t.TempDir(), "postgres")
		must(t, os.WriteFile(r.database, []byte(u.String()+"\n"), 0o600))
	})
	atA := a.enrol("lab-a")
	atB := atA.at(b)
	b.eventually("each knows that the other one is ready", func() bool { return b.server.OthersReady() && a.server.OthersReady() })
	between.Set(true)
	for range 2 {
		atB.turnedAway(t)
	}
	if status, _, detail := atA.do(atA.request(ep1, "one")); status != 201 {
		t.Errorf("at the other one: %d %s", status, detail)
	}
	between.Set(false)
	b.eventually("the next try is answered 200", func() bool { status, _, _ := atB.do(atB.request(ep1, "one")); return status == 200 })
}

// turnedAway sends an episode, and wants to be sent to another receiver soon.
func (h *host) turnedAway(t *testing.T) {
	t.Helper()
	res, err := h.client.Do(h.request(ep1, "one"))
	must(t, err)
	must(t, res.Body.Close())
	after, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if res.StatusCode != 503 || err != nil || after > 3 || !res.Close {
		t.Errorf("answered %d, Retry-After %d, the connection ends: %t", res.StatusCode, after, res.Close)
	}
}

// contacts returns what this receiver knows.
func (r *harness) contacts(t *testing.T) contacts.Contacts {
	t.Helper()
	c, err := contacts.Of(r.backend(), clock.Wall(r.now)())
	must(t, err)
	return c
}
