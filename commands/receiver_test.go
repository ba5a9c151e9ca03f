package commands_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// twins are a receiver with an authority, and a machine that becomes the second one. Their rows
// and tarballs are shared.
type twins struct {
	*site         // the first one
	second *site  // its serve
	root   string // the second machine
	server *pgtest.Server
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	store, server := s3test.New(t), pgtest.New(t)
	database := server.Database(t)
	r := &twins{site: &site{tb: t, dir: t.TempDir()}, root: t.TempDir(), server: server}
	r.second = &site{tb: t, dir: t.TempDir()}
	r.write("operator", []byte("secret\n"))
	r.write("rx.toml", fmt.Appendf(nil, "public_url = \"https://%s\"\nlisten = %[1]q\ndata_dir = %q\noperator_file = %q\n"+
		"[authority]\nlisten = %q\ndir = %q\nsocket = %q\n[limits]\nuploads = 17\nepisode_size = \"123456789 B\"\n",
		free(t), r.path("rx"), r.path("operator"), free(t), r.path("ca"), r.path("admin.sock")))
	r.shareAt("rx.toml", store.Addr, pgtest.URL(pgtest.ServeUser, server.Addr, database))
	r.write("owner", []byte(pgtest.URL("postgres", server.Addr, database)))
	rx := r.path("rx.toml")
	r.mustRun("ledger", "migrate", "--url-file", r.path("owner"), "--config", rx)
	r.mustRun("store", "init", "--config", rx)
	r.mustRun("access-token", "create", "grafana", "--config", rx)
	r.start("authority.log", "bootstrap", "--config", rx)
	r.until("the authority answers", func() bool { _, err := r.run("receiver", "list", "--config", rx); return err == nil })
	r.serve()
	t.Cleanup(r.stopServing)
	r.until("the first receiver is ready", func() bool { return strings.Contains(r.mustRun("status", "--config", rx), ": ready") })
	return r
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start starts a daemon.
func (r *site) start(log string, args ...string) {
	cmd := exec.Command("cis490", args...)
	cmd.Stderr = r.create(log)
	r.must(cmd.Start())
	r.tb.(*testing.T).Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// invite returns an invitation of a name.
func (r *twins) invite(name string) string {
	r.tb.Helper()
	out, err := exec.Command("cis490", "receiver", "invite", name, "--config", r.path("rx.toml")).Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		r.tb.Fatalf("%v: %s", err, exit.Stderr)
	}
	return string(out)
}

// join runs install on the second machine with a text on standard input.
func (r *twins) join(text string, more ...string) (string, error) {
	cmd := exec.Command("cis490", append([]string{"install", "receiver", "--join", "-"}, more...)...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// installed gives the second site the config that install wrote, with paths below root, another
// port, and no other change.
func (r *twins) installed() {
	b, err := os.ReadFile(filepath.Join(r.root, "etc/cis490/receiver.toml"))
	r.must(err)
	text := strings.NewReplacer(`'/`, "'"+r.root+"/", `"/etc`, `"`+r.root+`/etc`, `"/var`, `"`+r.root+`/var`).Replace(string(b))
	text = strings.Replace(text, `# data_dir = `, `data_dir = `, 1)
	text = strings.Replace(text, `# operator_file = `, `operator_file = `, 1)
	text = strings.Replace(text, `# urls_file = `, `urls_file = `, 1)
	text = strings.Replace(text, `# url_file = "`+r.root, `url_file = "`+r.root, 1) // of [ledger]; that of [authority] is empty
	at := strings.Index(text, "\nlisten = ")
	end := at + 1 + strings.Index(text[at+1:], "\n")
	r.second.write("rx.toml", []byte(text[:at]+"\nlisten = \""+free(r.tb.(*testing.T))+"\""+text[end:]))
}

// certificate returns the serial that a server shows to who trusts the fleet's CA.
func (r *twins) certificate(s *site) (string, error) {
	pool, err := pki.NewBundle(disk.OS{}, r.path("ca/trust.pem")).Get()
	r.must(err)
	conn, err := tls.Dial("tcp", strings.TrimSpace(s.read("addr")), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return pki.Serial(conn.ConnectionState().PeerCertificates[0]), nil
}

// TestReceiver_Joins: two commands make a second receiver, which has a certificate of its own and
// the first one's settings. It renews the certificate while it serves, until it is forgotten.
func TestReceiver_Joins(t *testing.T) {
	r := newTwins(t)
	rx, rx2 := r.path("rx.toml"), r.second.path("rx.toml")
	text := r.invite("rx2")
	if !strings.HasPrefix(text, "# SECRET: ") || strings.Contains(text, "secret_access_key") {
		t.Errorf("the text is\n%.300s", text)
	}
	// It reaches the database and the bucket, and says what it would do.
	out, err := r.join(text, "--dry-run")
	if err != nil || !strings.Contains(out, "+uploads = 17") || strings.Contains(out, s3test.Keys().Secret) {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	if out, err := r.join(text, "--root", r.root); err != nil || strings.Contains(out, "bootstrap") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := r.join(text, "--root", r.root); err != nil || !strings.Contains(out, "in sync, nothing changed") {
		t.Errorf("again: %v\n%s", err, out)
	}
	r.installed()
	if out := r.second.mustRun("config", "check", "--receiver", rx2); strings.Contains(out, "unknown") {
		t.Error(out)
	}
	r.second.serve() // gets the certificate, as install does before
	t.Cleanup(r.second.stopServing)
	serial := ""
	r.until("it has a certificate", func() (ok bool) { serial, err = r.certificate(r.second); return err == nil })
	if first, err := r.certificate(r.site); err != nil || first == serial {
		t.Errorf("both have the certificate %s: %v", first, err)
	}
	r.until("both are ready and agree", func() bool {
		out, err := r.run("doctor", "--role", "receiver", "--config", rx2, "--only", "cluster.ready,cluster.agree")
		return err == nil && strings.Contains(out, "2 ready") && strings.Contains(out, "2 receivers")
	})
	if out := r.mustRun("status", "--config", rx); !strings.Contains(out, "rx2 ") {
		t.Errorf("status does not name it:\n%s", out)
	}
	r.second.mustRun("cert-fetch", "--renew", "--config", rx2)
	r.until("serve has the new certificate", func() bool { s, err := r.certificate(r.second); return err == nil && s != serial })
	// After a rotation of the CA it does not wait until the certificate is due: the old CA may be
	// retired before.
	r.mustRun("ca", "rotate", "--config", rx)
	r.until("its certificate is of the new CA", func() bool {
		return strings.Contains(r.second.mustRun("cert-fetch", "--config", rx2), "rx2: renewed")
	})
	r.mustRun("ca", "retire", "--config", rx)
	if _, err := r.certificate(r.second); err != nil {
		t.Errorf("its certificate is not trusted after the retirement: %v", err)
	}
	out, err = r.run("receiver", "invite", "rx3", "--config", rx2)
	if err == nil || !strings.Contains(out, "on the receiver that has the authority") {
		t.Errorf("the second one invites: %v\n%s", err, out)
	}
	if out := r.mustRun("receiver", "list", "--config", rx); !strings.Contains(out, "rx2") || !strings.Contains(out, "active") {
		t.Error(out)
	}
	out = r.mustRun("doctor", "--role", "receiver", "--config", rx, "--only", "cluster.certificates")
	if !strings.Contains(out, "2 receivers") {
		t.Error(out)
	}
	if out := r.mustRun("status", "--json", "--config", rx); strings.Count(out, `"certificate_until"`) != 2 {
		t.Errorf("status has no ends of certificates:\n%s", out)
	}
	if out, err := r.run("ledger", "forget", "rx1", "--config", rx); err == nil || !strings.Contains(out, "no receiver is named rx1") {
		t.Errorf("%v\n%s", err, out)
	}
	r.second.stopServing()
	if out := r.mustRun("ledger", "forget", "rx2", "--config", rx); !strings.Contains(out, "and revoked it") {
		t.Error(out)
	}
	if out, err := r.second.run("cert-fetch", "--renew", "--config", rx2); err == nil || !strings.Contains(out, "receiver rx2 was revoked") ||
		!strings.Contains(out, "sudo cis490 receiver invite rx2") {
		t.Errorf("a receiver that was forgotten renews: %v\n%s", err, out)
	}
	if out := r.mustRun("status", "--config", rx); strings.Contains(out, "rx2") {
		t.Errorf("it is still named:\n%s", out)
	}
}

// TestReceiver_JoinTriesFirst: a machine that cannot use what is shared prints the reason and stays
// as it is. An invitation is not printed on a terminal.
func TestReceiver_JoinTriesFirst(t *testing.T) {
	r := newTwins(t)
	text := r.invite("rx2")
	refused := func(what, text, want string, code int) {
		t.Helper()
		out, err := r.join(text, "--dry-run")
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != code || !strings.Contains(out, want) || strings.Contains(out, s3test.Keys().Secret) {
			t.Errorf("%s: %v, want exit code %d and %q:\n%s", what, err, code, want, out)
		}
	}
	refused("nothing", "", "cut or changed", 64)
	refused("more than an invitation", strings.Repeat("x", 2<<20), "more than 1048576 bytes", 64)
	i, _, err := wire.ParseInvitation([]byte(text))
	r.must(err)
	with := func(change func(i *wire.Invitation)) string {
		other := i
		other.Files = maps.Clone(i.Files)
		change(&other)
		text, err := other.Text()
		r.must(err)
		return text
	}
	refused("a database of another store", with(func(i *wire.Invitation) { i.StoreID = "other" }), "the database is of store", 69)
	refused("wrong keys", with(func(i *wire.Invitation) {
		i.Files["s3"] = "access_key_id = a\nsecret_access_key = b\n"
	}), "store.bucket: ", 69)
	refused("a wrong password", with(func(i *wire.Invitation) {
		i.Files["postgres"] = strings.Replace(i.Files["postgres"], pgtest.ServeUser, "nobody", 1)
	}), "ledger.postgres: ", 69)
	r.server.Kill()
	refused("no database", text, "nothing was changed: let this machine reach", 69)
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "cis490-join*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	screen, tty := r.pty()
	cmd := exec.Command("cis490", "receiver", "invite", "rx3", "--config", r.path("rx.toml"))
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = tty, &errs
	if err := cmd.Run(); err == nil || !strings.Contains(errs.String(), "not printed on a terminal") {
		t.Errorf("on a terminal: %v: %s", err, errs.String())
	}
	r.must(errors.Join(tty.Close(), screen.Close()))
	if out := r.mustRun("receiver", "list", "--config", r.path("rx.toml")); strings.Contains(out, "rx3") {
		t.Error("it was invited nevertheless")
	}
}
