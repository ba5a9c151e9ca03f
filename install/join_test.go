package install_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/wire"
)

// invitation returns what receiver invite prints for rx2, after a change.
func invitation(t *testing.T, change func(*wire.Invitation, *config.Receiver)) string {
	t.Helper()
	c := config.DefaultReceiver()
	c.PublicURL, c.Authority.URL, c.Listen = "https://collector.lab:8443", "https://collector.lab:8444", "10.0.0.1:8443"
	c.Store.Backend, c.Store.S3.Endpoint, c.Store.S3.Bucket = config.StoreS3, "https://s3.lab", "cis490"
	c.Store.S3.CredentialsFile = "/srv/keys"
	c.Ledger.Backend = config.LedgerPostgres
	c.Limits.EpisodeSize, c.Gate.ExtraCommits, c.Balancer.From = 123456789, nil, []string{"10.0.0.5"}
	tok := token("rx2")
	tok.Server = true
	i := wire.Invitation{
		Schema: wire.InvitationSchema, Token: tok.String(), Expires: time.Now().Add(time.Hour), Version: "v1.0.0", StoreID: "s",
		Files: map[string]string{
			"operator": "secret\n", "postgres": "postgres://u:p%40ss@db1:5432,db2:5433/cis490?sslmode=verify-full&sslrootcert=%2Froot%2Fca.pem\n",
			"postgres-root": "root", "s3": "keys", install.TokensFile: "[]",
		},
	}
	if change != nil {
		change(&i, &c)
	}
	var err error
	if i.Config == "" {
		if i.Config, err = config.Encode(c.Share("rx2", "/etc/cis490")); err != nil {
			t.Fatal(err)
		}
	}
	text, err := i.Text()
	if err != nil {
		t.Fatal(err)
	}
	return "# SECRET\n" + text
}

// joins returns the options of an install with an invitation. Fetch enrolls.
func (r *harness) joins(text string) install.Options {
	r.t.Helper()
	i, err := install.ReadInvitation(text, "v1.0.0")
	if err != nil {
		r.t.Fatal(err)
	}
	o := r.options(install.Receiver)
	o.PublicURL, o.Invitation = "", i
	o.Fetch = func(context.Context, []string) error {
		r.write("var/lib/cis490/authority/server.pem", "pair")
		return os.Remove(r.path("var/lib/cis490/authority/join-token"))
	}
	return o
}

// TestJoin: a machine becomes a receiver without an authority, with the shared settings and
// files, and stays that when install runs again, with the invitation or without.
func TestJoin(t *testing.T) {
	r := newHarness(t)
	text := invitation(t, nil)
	out, calls := r.apply(r.joins(text))
	if strings.Contains(out, "keys") || strings.Contains(out, "p%40ss") || strings.Contains(out, "c490rx") {
		t.Errorf("it printed a secret:\n%s", out)
	}
	conf, unknown, err := config.LoadReceiver(r.path("etc/cis490/receiver.toml"))
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	want := config.DefaultReceiver()
	if !conf.Authority.Elsewhere || conf.Name != "rx2" || conf.Listen != ":8443" || conf.Limits.EpisodeSize != 123456789 ||
		conf.Authority.Dir != "/var/lib/cis490/authority" || conf.DataDir != want.DataDir || conf.Store.S3.CredentialsFile != "/etc/cis490/s3" ||
		!slices.Equal(conf.Balancer.From, []string{"10.0.0.5"}) {
		t.Errorf("config: %+v", conf)
	}
	if !strings.Contains(r.read("etc/cis490/receiver.toml"), "# The largest episode, the free space to keep") {
		t.Error("the config has no comments")
	}
	url := "postgres://u:p%40ss@db1:5432,db2:5433/cis490?sslmode=verify-full&sslrootcert=%2Fetc%2Fcis490%2Fpostgres-root\n"
	for name, content := range map[string]string{
		"operator": "secret\n", "postgres": url, "postgres-root": "root", "s3": "keys", "access-tokens.json": "[]",
	} {
		fi, err := os.Lstat(r.path("etc/cis490/" + name))
		if err != nil || fi.Mode() != 0o640 || r.read("etc/cis490/"+name) != content {
			t.Errorf("%s: %v, %v: %q", name, err, fi.Mode(), r.read("etc/cis490/"+name))
		}
	}
	if r.exists("etc/systemd/system/cis490-bootstrap.service") || r.exists("var/lib/cis490-authority") || r.exists("etc/cis490/ca") ||
		slices.ContainsFunc(calls, func(c string) bool { return strings.Contains(c, "bootstrap") }) {
		t.Errorf("it has an authority: %v", calls)
	}
	if !slices.Contains(calls, "start cis490-receiver.service") {
		t.Errorf("calls: %v", calls)
	}
	before := r.tree()
	again := r.options(install.Receiver)
	again.PublicURL = ""
	for what, o := range map[string]install.Options{"with the invitation": r.joins(text), "without": again} {
		if out, calls := r.apply(o); !strings.Contains(out, "in sync") || len(calls) > 0 {
			t.Errorf("%s: %v\n%s", what, calls, out)
		}
	}
	if after := r.tree(); len(after) != len(before) {
		t.Error("it changed something")
	}
	// What differs is mended.
	if err := os.Chmod(r.path("var/lib/cis490/authority"), 0o777); err != nil {
		t.Fatal(err)
	}
	r.write("etc/systemd/system/cis490-bootstrap.service", "# Written by 'cis490 install'")
	if out, n := r.drift(again); n != 3 { // the last one is systemd's reload
		t.Errorf("%d differ:\n%s", n, out)
	}
	r.apply(again)
	if r.exists("etc/systemd/system/cis490-bootstrap.service") {
		t.Error("the authority's unit stays")
	}
	if err := install.Uninstall(t.Context(), install.UninstallOptions{
		Role: install.Receiver, Root: r.root, Purge: true, Out: &r.out, Manager: r.manager,
	}); err != nil {
		t.Fatal(err)
	}
	if r.exists("etc/cis490") || r.exists("var/lib/cis490/authority") {
		t.Error("secrets stay after a purge")
	}
}

// TestJoin_AfterAFailure: while the certificate cannot be fetched, the services run, and the next
// install tries again with the same invitation.
func TestJoin_AfterAFailure(t *testing.T) {
	r := newHarness(t)
	o := r.joins(invitation(t, nil))
	fetch := o.Fetch
	o.Fetch = func(context.Context, []string) error { return errors.New("the authority is away") }
	p, err := install.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "is away") {
		t.Errorf("error: %v", err)
	}
	if !r.exists("var/lib/cis490/authority/join-token") || !slices.Contains(r.manager.calls, "start cis490-receiver.service") {
		t.Errorf("calls: %v", r.manager.calls)
	}
	o.Fetch = fetch
	if out, _ := r.apply(o); !strings.Contains(out, "server certificate") || r.exists("var/lib/cis490/authority/join-token") {
		t.Error(out)
	}
}

// TestJoin_Refused: an invitation that is damaged, of others, or for a machine that is something
// else changes nothing.
func TestJoin_Refused(t *testing.T) {
	good := invitation(t, nil)
	file := func(name, content string) func(*wire.Invitation, *config.Receiver) {
		return func(i *wire.Invitation, _ *config.Receiver) { i.Files[name] = content }
	}
	of := func(change func(*config.Receiver)) string {
		return invitation(t, func(_ *wire.Invitation, c *config.Receiver) { change(c) })
	}
	for what, c := range map[string]struct{ text, want string }{
		"nothing":           {"", "cut or changed"},
		"cut":               {good[:len(good)/2], "cut or changed"},
		"without its end":   {good[:len(good)-10], "cut or changed"},
		"a line is missing": {strings.Join(slices.Delete(strings.SplitAfter(good, "\n"), 6, 7), ""), "cut or changed"},
		"changed":           {strings.Replace(good, "eyJzY2hlbWEi", "eyJzY2hlbWEj", 1), "cut or changed"},
		"twice":             {good + good, "cut or changed"},
		"a host's token":    {token("rx2").String(), "cut or changed"},
		"a host's token in it": {invitation(t, func(i *wire.Invitation, _ *config.Receiver) {
			i.Token = token("rx2").String()
		}), "does not start with"},
		"a newer version": {invitation(t, func(i *wire.Invitation, _ *config.Receiver) { i.Schema = "cis490.invitation/2" }), "is of version"},
		"an unknown key": {invitation(t, func(i *wire.Invitation, _ *config.Receiver) {
			i.Config = "public_url = \"https://collector.lab:8443\"\nnewer = 1\n"
		}), "does not know all settings"},
		"a path":               {invitation(t, file("../../root/.ssh/authorized_keys", "x")), "which this program does not know"},
		"an absolute path":     {invitation(t, file("/etc/passwd", "x")), "which this program does not know"},
		"a file of the system": {invitation(t, file("lab-host.toml", "x")), "which this program does not know"},
		"without keys": {invitation(t, func(i *wire.Invitation, _ *config.Receiver) {
			delete(i.Files, "s3")
		}), `lacks the file "s3"`},
		"of a receiver alone": {of(func(c *config.Receiver) { c.Ledger.Backend = config.LedgerFiles }), "authority.elsewhere: needs"},
		"of two receivers":    {of(func(c *config.Receiver) { c.PublicURL = "https://other.lab:8443" }), "of different receivers"},
	} {
		_, err := install.ReadInvitation(c.text, "v1.0.0")
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.CodeOf(err) == 1 || fault.FixOf(err) == "" {
			t.Errorf("%s: %v, exit code %d, fix %q", what, err, fault.CodeOf(err), fault.FixOf(err))
		}
		if err != nil && (strings.Contains(fault.Text(err), "p%40ss") || strings.Contains(fault.Text(err), "@collector")) {
			t.Errorf("%s: the error has a secret: %v", what, err)
		}
	}
	for what, c := range map[string]struct{ files, want string }{
		"a receiver with episodes": {"var/lib/cis490/index.jsonl", "data of another receiver"},
		"a receiver with an id":    {"var/lib/cis490/store_id", "data of another receiver"},
		"an authority":             {"var/lib/cis490-authority/ca.key", "data of another receiver"},
	} {
		r := newHarness(t)
		r.write(c.files, "x")
		r.refuses(what, r.joins(good), c.want)
	}
	r := newHarness(t)
	r.apply(r.options(install.Receiver))
	r.refuses("the receiver with the authority", r.joins(good), "this machine is another receiver")
	r = newHarness(t)
	r.apply(r.joins(good))
	other := r.joins(of(func(c *config.Receiver) { c.Store.S3.Bucket = "other" }))
	r.refuses("a receiver of another store", other, `store.s3.bucket: is "cis490", but the invitation is for "other"`)
	r = newHarness(t)
	late := func(i *wire.Invitation, _ *config.Receiver) { i.Expires = time.Now().Add(-time.Second) }
	r.refuses("late", r.joins(invitation(t, late)), "expired")
}

// refuses checks that an install fails and changes nothing.
func (r *harness) refuses(what string, o install.Options, want string) {
	r.t.Helper()
	before := r.tree()
	_, err := install.New(o)
	if err == nil || !strings.Contains(err.Error(), want) || fault.FixOf(err) == "" {
		r.t.Errorf("%s: %v, fix %q", what, err, fault.FixOf(err))
	}
	if after := r.tree(); len(after) != len(before) {
		r.t.Errorf("%s: it changed something", what)
	}
}

// TestJoin_FollowsNoLink: who could put links into the folders gets no file written elsewhere.
func TestJoin_FollowsNoLink(t *testing.T) {
	r := newHarness(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/cis490/s3", "etc/cis490/postgres", "var/lib/cis490/authority/join-token"} {
		if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, r.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	o := r.joins(invitation(t, nil))
	o.Fetch = func(context.Context, []string) error { return nil }
	r.apply(o)
	if b, err := os.ReadFile(victim); err != nil || !bytes.Equal(b, []byte("mine")) {
		t.Errorf("%q, %v", b, err)
	}
	if fi, err := os.Lstat(r.path("etc/cis490/s3")); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("s3: %v, %v", err, fi.Mode())
	}
}

// TestJoin_BesideALabHost: the lab host's files and units stay.
func TestJoin_BesideALabHost(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	r.apply(r.joins(invitation(t, nil)))
	for _, name := range []string{
		"etc/systemd/system/cis490-shipper.service", "etc/systemd/system/cis490-receiver.service", "etc/cis490/certs/lab-host.pem",
	} {
		if !r.exists(name) {
			t.Errorf("%s is missing", name)
		}
	}
	if out, _ := r.apply(r.options(install.LabHost)); !strings.Contains(out, "in sync") {
		t.Errorf("the lab host's install changes something:\n%s", out)
	}
}
