package authority_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
	"cis490/receiver/pg"
	"cis490/receiver/pg/pgtest"
	"cis490/receiver/roster"
)

// caUser is the user of the authority in the database.
const caUser = "ca"

// fleet is a database for several authorities.
type fleet struct {
	t        *testing.T
	server   *pgtest.Server
	database string
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, server: pgtest.New(t)}
	f.database = f.server.Database(t)
	f.server.SQL(t, "postgres", "CREATE ROLE ca LOGIN PASSWORD '"+pgtest.Password+"'")
	owner := pgtest.URL("postgres", f.server.Addr, f.database)
	if _, _, err := pg.Migrate(t.Context(), owner, pgtest.ServeUser, ""); err != nil {
		t.Fatal(err)
	}
	if err := pg.GrantAuthority(t.Context(), owner, caUser); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) sql(statement string) string { return f.server.SQL(f.t, f.database, statement) }

// expire ends the lease of the authority, as if its holder were away for longer than it lasts.
func (f *fleet) expire() {
	f.sql("UPDATE authority_leases SET until = '-infinity' WHERE name = 'authority'")
}

// until waits for a condition.
func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// sharer is an authority of the fleet, not started, which connects to the database by a proxy.
func (f *fleet) sharer(name string) *sharer {
	f.t.Helper()
	h := &harness{t: f.t, dir: f.t.TempDir(), clock: &clock{at: time.Now()}, log: &log{}, fs: disk.OS{}, url: "https://ca.lab:8444"}
	h.stop = func() {}
	m := &sharer{harness: h, f: f, name: name, cut: pgtest.NewCutter(f.t, f.server.Addr)}
	if err := os.MkdirAll(filepath.Join(h.dir, "authority"), 0o750); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { m.stop() })
	return m
}

type sharer struct {
	*harness
	f    *fleet
	name string
	cut  *pgtest.Cutter
}

// share starts it.
func (m *sharer) share() {
	m.t.Helper()
	url := filepath.Join(m.dir, "url")
	if err := os.WriteFile(url, []byte(pgtest.URL(caUser, m.cut.Addr, m.f.database)+"\n"), 0o600); err != nil {
		m.t.Fatal(err)
	}
	o := m.options()
	rows := pg.OpenRecords(pg.Options{FS: disk.OS{}, URLFile: url, Name: m.name, Log: o.Log})
	m.ask, m.at = authority.NewClient(o.Config.Socket), new(atomic.Pointer[string])
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- authority.Shared(ctx, o, rows, func(a net.Addr) error {
			at := a.String()
			m.at.Store(&at)
			return nil
		})
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("%s: %v\n%s", m.name, err, m.log)
		}
	})
}

func (m *sharer) state() authority.State {
	s, err := m.ask.State(m.t.Context())
	if err != nil {
		return authority.State{Problem: "no answer"}
	}
	return s
}

// content returns a file's content; empty if it does not exist.
func (m *sharer) content(name string) string {
	b, err := os.ReadFile(m.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(b)
}

// active waits until it has the authority.
func (m *sharer) active() {
	m.t.Helper()
	m.f.until(m.name+" has the authority", func() bool { return m.state().Active })
}

// standing waits until it stands by and could take over.
func (m *sharer) standing() {
	m.t.Helper()
	m.f.until(m.name+" stands by", func() bool { s := m.state(); return !s.Active && s.Holder != "" && s.Problem == "" })
}

// give copies the CA key to another sharer.
func (m *sharer) give(other *sharer) {
	m.t.Helper()
	if err := os.WriteFile(other.path(authority.KeyFile), read(m.t, m.path(authority.KeyFile)), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// pair is two machines with one CA; the first one has the authority.
func pair(t *testing.T) (f *fleet, a, b *sharer) {
	t.Helper()
	f = newFleet(t)
	a, b = f.sharer("rx-1"), f.sharer("rx-2")
	a.share()
	a.active()
	a.give(b)
	b.share()
	b.standing()
	return f, a, b
}

// TestShared_TakesOver: what one machine recorded, from before it had a database too, the other one
// knows.
func TestShared_TakesOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.sharer("rx-1"), f.sharer("rx-2")
	a.start() // without a database
	csr := a.csr("lab-01")
	used := a.token("lab-01").Secret
	if _, err := a.post("lab-01", wire.CertRequest{CSR: csr, Token: used}); err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.share()
	a.active()
	a.give(b)
	b.share()
	b.standing()
	leases := f.sql("SELECT name || ' ' || holder FROM authority_leases WHERE until > now() ORDER BY name")
	if leases != "authority rx-1\nstandby rx-2" {
		t.Errorf("leases: %q", leases)
	}
	open := a.token("lab-02").Secret
	gone := a.csr("lab-03")
	for _, err := range []error{
		second(a.post("lab-03", wire.CertRequest{CSR: gone, Token: a.token("lab-03").Secret})), a.ask.Decommission(t.Context(), "lab-03"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.ask.Decommission(t.Context(), "lab-01"); err == nil || !strings.Contains(err.Error(), "rx-1") {
		t.Errorf("a command on the standby: %v", err)
	}
	a.cut.Arm(pgtest.ToServer, 0) // away at once, in the middle of all
	f.expire()
	a.stop()
	b.active()
	for what, err := range map[string]error{
		"a renewal":                  second(b.post("lab-01", wire.CertRequest{CSR: csr})),
		"an open token":              second(b.post("lab-02", wire.CertRequest{CSR: b.csr("lab-02"), Token: open})),
		"the same key, after a used": second(b.post("lab-01", wire.CertRequest{CSR: csr, Token: used})),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantKind(t, second(b.post("lab-01", wire.CertRequest{CSR: b.csr("lab-01"), Token: used})), wire.TokenUsed)
	wantKind(t, second(b.post("lab-03", wire.CertRequest{CSR: gone})), wire.Decommission)
	// The first one comes back, gets what it missed, and takes over in turn.
	a.share()
	a.standing()
	b.stop()
	a.active()
	wantKind(t, second(a.post("lab-02", wire.CertRequest{CSR: a.csr("lab-02"), Token: open})), wire.TokenUsed)
	for _, name := range []string{local.RosterFile, authority.TokensFile, authority.IssuedFile} {
		if !strings.HasPrefix(a.content(name), b.content(name)) {
			t.Errorf("%s differs", name)
		}
		n, lines := f.sql("SELECT count(*) FROM authority_rows WHERE file = '"+name+"'"), strings.Count(a.content(name), "\n")
		if n != strconv.Itoa(lines) {
			t.Errorf("%s has %d lines, the database %s", name, lines, n)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestShared_LateHolder: a machine whose lease another one took in the middle of a request records
// nothing more, answers nothing that it does not know, and stands by.
func TestShared_LateHolder(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	secret := a.token("lab-01").Secret
	f.sql("UPDATE authority_leases SET holder = 'rx-2', token = token + 1 WHERE name = 'authority'")
	// Its own look at the lease is a second away at most.
	err := second(a.post("lab-01", wire.CertRequest{CSR: a.csr("lab-01"), Token: secret}))
	if p, ok := errors.AsType[*wire.Problem](err); err == nil || ok && p.Kind != wire.NotReady {
		t.Errorf("an enrollment: %v", err)
	}
	if n := f.sql("SELECT count(*) FROM authority_rows WHERE line LIKE '%\"bound\"%' OR line LIKE '%\"enrolled\"%'"); n != "0" {
		t.Errorf("%s rows were recorded", n)
	}
	a.standing()
	f.expire()
	f.until("one of them has the authority", func() bool { return a.state().Active != b.state().Active })
}

// TestShared_AnswersLost cuts the authority's connection to the database after every so many bytes
// of an enrollment. The host asks until it is answered: its token is bound once, to its key.
func TestShared_AnswersLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.sharer("rx-1")
	a.share()
	a.active()
	cuts := 4 // each costs seconds
	enroll := func(h ident.Host, secret, csr string) {
		t.Helper()
		f.until(string(h)+" is enrolled", func() bool {
			return a.state().Active && second(a.post(h, wire.CertRequest{CSR: csr, Token: secret})) == nil
		})
	}
	for _, way := range []pgtest.Way{pgtest.ToServer, pgtest.ToClient} {
		a.cut.Arm(way, -1)
		h := ident.Host("count-" + strconv.Itoa(int(way)))
		secret, csr := a.token(h).Secret, a.csr(h)
		a.cut.Arm(way, -1)
		enroll(h, secret, csr)
		bytes := a.cut.Moved(way)
		for n := 0; n < bytes; n += max(1, bytes/cuts) {
			h := ident.Host("lab-" + strconv.Itoa(int(way)) + "-" + strconv.Itoa(n))
			a.active()
			secret, csr := a.token(h).Secret, a.csr(h)
			a.cut.Arm(way, n)
			enroll(h, secret, csr)
		}
	}
	for what, query := range map[string]string{
		"tokens that were bound twice": `SELECT count(*) FROM (SELECT line::json->>'secret_sha256' FROM authority_rows
			WHERE file = 'tokens.jsonl' AND line::json->>'event' = 'bound' GROUP BY 1 HAVING count(*) > 1) x`,
		"hosts with two keys": `SELECT count(*) FROM (SELECT line::json->>'host' FROM authority_rows
			WHERE file = 'roster.jsonl' AND line::json->>'event' = 'enrolled' GROUP BY 1 HAVING count(DISTINCT line::json->>'key') > 1) x`,
	} {
		if n := f.sql(query); n != "0" {
			t.Errorf("%s %s", n, what)
		}
	}
	if all, err := local.Roster(disk.OS{}, filepath.Join(a.dir, "authority")).All(); err != nil {
		t.Error(err)
	} else {
		for _, h := range all {
			if h.State != roster.Active {
				t.Errorf("%s is %s", h.Name, h.State)
			}
		}
	}
}

// TestShared_Rights: who has only serve's rights in the database records nothing of the authority's,
// reads no token, and cannot decide who has the authority.
func TestShared_Rights(t *testing.T) {
	t.Parallel()
	f, a, _ := pair(t)
	a.token("lab-01")
	url := pgtest.URL(pgtest.ServeUser, f.server.Addr, f.database)
	for _, statement := range []string{
		"INSERT INTO authority_rows (file, line) VALUES ('roster.jsonl', '{}')", "UPDATE authority_rows SET line = ''",
		"DELETE FROM authority_rows", "SELECT 1 FROM authority_rows", "UPDATE authority_leases SET token = 1",
		"DELETE FROM authority_leases", "INSERT INTO authority_public (file, line) VALUES ('roster.jsonl', '{}')",
		"SET ROLE cis490_authority",
	} {
		if out, err := f.server.Try(url, statement); err == nil {
			t.Errorf("%s: %s", statement, out)
		}
	}
	out, err := f.server.Try(url, "SELECT string_agg(DISTINCT file, ' ' ORDER BY file) FROM authority_public")
	if err != nil || out != "roster.jsonl trust.pem" {
		t.Errorf("what serve reads: %s, %v", out, err)
	}
	ca := pgtest.URL(caUser, f.server.Addr, f.database)
	for _, statement := range []string{
		"UPDATE authority_rows SET line = ''", "DELETE FROM authority_rows", "SELECT 1 FROM documents", "SELECT 1 FROM episodes",
		"UPDATE leases SET token = 1",
	} {
		if out, err := f.server.Try(ca, statement); err == nil {
			t.Errorf("as the authority: %s: %s", statement, out)
		}
	}
}

// TestShared_Keys: a machine without the fleet's CA key, or with that from before a rotation, does
// not take over, and names the fix.
func TestShared_Keys(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	refused := func(m *sharer, what, problem string) {
		t.Helper()
		f.until(what, func() bool { return strings.Contains(m.state().Problem, problem) })
		if fix := m.state().Fix; !strings.Contains(fix, "restore --ca-key") {
			t.Errorf("%s: fix: %s", what, fix)
		}
		n := f.sql("SELECT count(*) FROM authority_leases WHERE name = 'standby' AND until > now() AND holder = '" + m.name + "'")
		if n != "0" {
			t.Errorf("%s stands by", m.name)
		}
	}
	if _, err := a.ask.RotateCA(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(b, "the key is older", "another CA, or an older one")
	a.give(b)
	b.standing()
	if _, err := a.ask.RetireCA(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.until("the older CA is not trusted there", func() bool {
		return a.content(authority.TrustFile) == b.content(authority.TrustFile)
	})
	c := f.sharer("rx-3")
	c.share()
	refused(c, "there is no key", "the CA key is missing")
	c.stop()
	if err := os.WriteFile(c.path(authority.KeyFile), read(t, newHarness(t).path(authority.KeyFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.share()
	refused(c, "the key is another CA's", "another CA, or an older one")
}

// TestShared_RowsOfItsOwn: rows that a machine has and the database lacks are not lost: it adds them
// when it takes over, unless the database has others in their place.
func TestShared_RowsOfItsOwn(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	a.token("lab-01")
	a.token("lab-02")
	f.until("the other one has them", func() bool {
		return a.content(local.RosterFile) == b.content(local.RosterFile)
	})
	a.stop()
	b.active()
	b.stop()
	f.sql("DELETE FROM authority_rows WHERE line LIKE '%lab-02%'") // a failover that lost rows
	b.share()
	b.active()
	if n := f.sql("SELECT count(*) FROM authority_rows WHERE line LIKE '%lab-02%'"); n != "2" {
		t.Errorf("%s rows", n)
	}
	f.sql("UPDATE authority_rows SET line = replace(line, 'lab-02', 'lab-09')")
	a.share()
	f.until("it refuses", func() bool { return strings.Contains(a.state().Problem, "different rows") })
	if fix := a.state().Fix; !strings.Contains(fix, "sudo mv "+filepath.Join(a.dir, "authority")) {
		t.Errorf("fix: %s", fix)
	}
}

// TestShared_NotBesideFiles: no machine begins with an empty database while another one has the
// authority in its files.
func TestShared_NotBesideFiles(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.sql("INSERT INTO leases VALUES ('authority', 'rx-1 0a1b', 1, now() + interval '1 hour')")
	b := f.sharer("rx-2")
	b.share()
	f.until("it refuses", func() bool { return strings.Contains(b.log.String(), "rx-1 0a1b has the authority in its files") })
	if n := f.sql("SELECT count(*) FROM authority_rows"); n != "0" {
		t.Errorf("%s rows", n)
	}
	f.sql("UPDATE leases SET holder = 'rx-2 0a1b'") // serve of the same machine, not restarted yet
	b.active()
}
