package commands_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// sharing is a receiver that may have the authority. Its processes are real.
type sharing struct {
	*site
	name   string
	listen string // of its authority
	boot   *exec.Cmd
}

// sharers are receivers on one database and bucket; the first and the second one may have the
// authority, the third one has copies.
type sharers struct {
	one, two, three *sharing
	server          *pgtest.Server
	database        string
}

func newSharers(t *testing.T) *sharers {
	t.Helper()
	store, server := s3test.New(t), pgtest.New(t)
	f := &sharers{server: server, database: server.Database(t)}
	server.SQL(t, "postgres", "CREATE ROLE ca LOGIN PASSWORD '"+pgtest.Password+"'")
	url := free(t) // of the balancer, which is not there
	made := func(name, authority string) *sharing {
		r := &sharing{site: &site{tb: t, dir: t.TempDir()}, name: name, listen: free(t)}
		r.write("operator", []byte("secret\n"))
		r.write("postgres-ca", []byte(pgtest.URL("ca", server.Addr, f.database)+"\n"))
		r.write("rx.toml", fmt.Appendf(nil, "name = %q\npublic_url = \"https://127.0.0.1:8443\"\nlisten = %q\ndata_dir = %q\n"+
			"operator_file = %q\n[authority]\nurl = \"https://%s\"\nlisten = %q\ndir = %q\nsocket = %q\n%s\n",
			name, free(t), r.path("rx"), r.path("operator"), url, r.listen, r.path("ca"), r.path("admin.sock"), authority))
		r.shareAt("rx.toml", store.Addr, pgtest.URL(pgtest.ServeUser, server.Addr, f.database))
		r.write("owner", []byte(pgtest.URL("postgres", server.Addr, f.database)))
		return r
	}
	f.one = made("rx-1", "")
	f.one.write("rx.toml", []byte(strings.Replace(f.one.read("rx.toml"), "[authority]\n",
		"[authority]\nurl_file = \""+f.one.path("postgres-ca")+"\"\n", 1)))
	f.two = made("rx-2", "")
	f.two.write("rx.toml", []byte(strings.Replace(f.two.read("rx.toml"), "[authority]\n",
		"[authority]\nurl_file = \""+f.two.path("postgres-ca")+"\"\n", 1)))
	f.three = made("rx-3", "elsewhere = true")
	f.one.mustRun("ledger", "migrate", "--url-file", f.one.path("owner"), "--config", f.one.path("rx.toml"))
	f.one.mustRun("store", "init", "--config", f.one.path("rx.toml"))
	f.one.bootstrap()
	f.one.active()
	for _, r := range []*sharing{f.one, f.two, f.three} {
		r.start("serve.log", "serve", "--config", r.path("rx.toml"))
	}
	return f
}

// bootstrap starts its authority, which a signal may end.
func (r *sharing) bootstrap() {
	r.boot = exec.Command("cis490", "bootstrap", "--config", r.path("rx.toml"))
	r.boot.Stderr = r.create("authority.log")
	r.must(r.boot.Start())
	r.tb.Cleanup(func() {
		_ = r.boot.Process.Signal(syscall.SIGCONT)
		_ = r.boot.Process.Kill()
		_ = r.boot.Wait()
	})
}

func (r *sharing) client() *authority.Client { return authority.NewClient(r.path("admin.sock")) }

func (r *sharing) active() {
	r.tb.Helper()
	r.until(r.name+" has the authority", func() bool {
		s, err := r.client().State(r.tb.Context())
		return err == nil && s.Active
	})
}

// ask requests a certificate. It returns an error also if nothing answers.
func (r *sharing) ask(h ident.Host, key *ecdsa.PrivateKey, token string) error {
	csr, err := pki.NewCSR(key, h)
	if err != nil {
		return err
	}
	body, err := json.Marshal(wire.CertRequest{CSR: string(csr), Token: token})
	if err != nil {
		return err
	}
	pool, err := pki.NewBundle(disk.OS{}, r.path("ca/trust.pem")).Get()
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: pki.ClientTLS(pool, nil), DisableKeepAlives: true}
	cl := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	res, err := cl.Post("https://"+r.listen+wire.CertPrefix+string(h), wire.ContentTypeJSON, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}

func (r *sharing) token(h ident.Host) string {
	r.tb.Helper()
	made, err := r.client().CreateTokens(r.tb.Context(), authority.TokenRequest{Hosts: []ident.Host{h}})
	r.must(err)
	t, err := wire.ParseToken(made[0].Token)
	r.must(err)
	return t.Secret
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAuthority_Standby: a machine gets the CA key from a backup and stands by. When the one with
// the authority is killed, or stopped for longer than its lease and continued while hosts enroll,
// the other one takes over: each token is used once, and all receivers know who is decommissioned.
func TestAuthority_Standby(t *testing.T) {
	t.Parallel()
	f := newSharers(t)
	conf := func(r *sharing) string { return r.path("rx.toml") }
	if out := f.one.mustRun("receiver", "list", "--config", conf(f.one)); !strings.Contains(out, "authority: rx-1; no machine stands by") {
		t.Error(out)
	}
	f.two.bootstrap() // without a key
	f.two.until("doctor names the missing key", func() bool {
		out, err := f.two.run("doctor", "--role", "receiver", "--config", conf(f.two), "--only", "cluster.authority")
		return err != nil && strings.Contains(out, "the CA key is missing") && strings.Contains(out, "restore --ca-key")
	})
	f.one.mustRun("backup", "--to", f.one.path("b.tar.gz"), "--config", conf(f.one))
	if out, err := f.two.run("restore", "--ca-key", "--from", f.one.path("b.tar.gz"), "--config", conf(f.two)); err == nil {
		t.Errorf("while it runs: %s", out)
	}
	_ = f.two.boot.Process.Signal(syscall.SIGTERM)
	f.two.must(f.two.boot.Wait())
	f.two.mustRun("restore", "--ca-key", "--from", f.one.path("b.tar.gz"), "--config", conf(f.two))
	f.two.bootstrap()
	f.one.until("it stands by", func() bool {
		return strings.Contains(f.one.mustRun("status", "--config", conf(f.one)), "authority: rx-1; rx-2 stands by")
	})
	out := f.two.mustRun("doctor", "--role", "receiver", "--config", conf(f.two), "--only", "cluster.authority")
	if !strings.Contains(out, "rx-2 stands by") {
		t.Error(out)
	}

	key, open := newKey(t), f.one.token("lab-02")
	f.one.must(f.one.ask("lab-01", key, f.one.token("lab-01")))
	began := time.Now()
	f.one.must(f.one.boot.Process.Kill())
	_ = f.one.boot.Wait()
	f.two.until("the other one renews", func() bool { return f.two.ask("lab-01", key, "") == nil })
	t.Logf("killed: the other one issued a certificate after %s", time.Since(began).Round(100*time.Millisecond))
	f.two.must(f.two.ask("lab-02", newKey(t), open))
	f.two.must(f.two.client().Decommission(t.Context(), "lab-01"))
	f.three.until("a receiver with copies knows", func() bool {
		return strings.Contains(f.three.read("ca/roster.jsonl"), `"decommissioned"`) &&
			f.three.read("ca/trust.pem") == f.one.read("ca/trust.pem")
	})
	out, err := f.one.run("release", "withdraw", "--seq", "1", "--config", conf(f.one))
	if err == nil || !strings.Contains(out, "has the authority") {
		t.Errorf("an order on the machine that lost the authority: %v: %s", err, out)
	}
	f.one.bootstrap()
	f.one.until("the first one stands by, and knows", func() bool {
		s, err := f.one.client().State(t.Context())
		return err == nil && !s.Active && s.Holder == "rx-2" && strings.Contains(f.one.read("ca/roster.jsonl"), `"decommissioned"`)
	})

	// Every token is tried by two machines with keys of their own, at both authorities.
	var mu sync.Mutex
	used := map[ident.Host]map[string]bool{}
	var tries sync.WaitGroup
	end := make(chan struct{})
	active := f.two
	for n := range 12 {
		h := ident.Host(fmt.Sprintf("race-%02d", n))
		secret := active.token(h)
		for i, k := range []*ecdsa.PrivateKey{newKey(t), newKey(t)} {
			for _, at := range []*sharing{f.one, f.two} {
				tries.Go(func() {
					for {
						if at.ask(h, k, secret) == nil {
							mu.Lock()
							if used[h] == nil {
								used[h] = map[string]bool{}
							}
							used[h][fmt.Sprint(i)] = true
							mu.Unlock()
						}
						select {
						case <-end:
							return
						case <-time.After(100 * time.Millisecond):
						}
					}
				})
			}
		}
		if n == 5 {
			f.two.must(f.two.boot.Process.Signal(syscall.SIGSTOP))
			f.one.active()
			f.two.must(f.two.boot.Process.Signal(syscall.SIGCONT))
			active = f.one
		}
	}
	f.one.until("all are enrolled", func() bool { mu.Lock(); defer mu.Unlock(); return len(used) == 12 })
	close(end)
	tries.Wait()
	for h, keys := range used {
		if len(keys) != 1 {
			t.Errorf("%s was enrolled with %d keys", h, len(keys))
		}
	}
	twice := f.server.SQL(t, f.database, `SELECT count(*) FROM (SELECT line::json->>'host' FROM authority_rows
		WHERE file = 'roster.jsonl' AND line::json->>'event' = 'enrolled' AND line::json->>'host' LIKE 'race%'
		GROUP BY 1 HAVING count(DISTINCT line::json->>'key') > 1) x`)
	if twice != "0" {
		t.Errorf("%s hosts have two keys", twice)
	}
}
