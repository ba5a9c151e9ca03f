package install_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/fault"
)

const labConfig = `host = "lab-01"
receiver.url = "https://collector.lab:8443"
authority.url = "https://collector.lab:8444"
`

// TestNew_RefusesBeforeAnythingChanges lists what prevents an installation; each
// error names the place and the fix, and nothing is left behind.
func TestNew_RefusesBeforeAnythingChanges(t *testing.T) {
	for name, c := range map[string]struct {
		role   install.Role
		config string
		change func(*install.Options)
		code   int
		want   string
	}{
		"no token and no config": {install.LabHost, "", func(o *install.Options) { o.Token = "" }, fault.Usage, "no join token"},
		"a cut token":            {install.LabHost, "", func(o *install.Options) { o.Token = o.Token[:40] }, fault.Usage, "paste the whole line"},
		"no token at all":        {install.LabHost, "", func(o *install.Options) { o.Token = "hello" }, fault.Usage, "join token does not start"},
		"a token for another host": {
			install.LabHost, labConfig, func(o *install.Options) { o.Token = token("lab-02").String() }, fault.Config,
			`host: is "lab-01", but the join token is for "lab-02"`,
		},
		"a token of another fleet": {
			install.LabHost, strings.Replace(labConfig, "collector", "other", 1), nil, fault.Config,
			`receiver.url: is "https://other.lab:8443", but the join token is for "https://collector.lab:8443"`,
		},
		"an unknown key": {install.LabHost, labConfig + "hots = 1\n", nil, fault.Config, `lab-host.toml:4:1: hots: unknown key`},
		"a placeholder": {
			install.LabHost, strings.Replace(labConfig, "lab-01", "REPLACE_ME", 1), nil, fault.Config,
			`lab-host.toml:1:1: host: `,
		},
		"data in /home": {install.LabHost, "data_dir = \"/home/me/data\"\n" + labConfig, nil, fault.Config, "services cannot see /home"},
		"no URL":        {install.Receiver, "", func(o *install.Options) { o.PublicURL = "" }, fault.Usage, "no public URL was given"},
		"a bad URL": {
			install.Receiver, "", func(o *install.Options) { o.PublicURL = "collector.lab" }, fault.Usage,
			`public URL "collector.lab"`,
		},
		"another URL": {
			install.Receiver, "public_url = \"https://other.lab:8443\"\n", nil, fault.Config,
			`public_url: is "https://other.lab:8443"`,
		},
		"a socket in /run": {
			install.Receiver, "public_url = \"https://collector.lab:8443\"\nauthority.socket = \"/run/a.sock\"\n", nil,
			fault.Config, "needs its own folder",
		},
		"a version as path": {
			install.LabHost, "", func(o *install.Options) { o.Build.Version = "../../etc" }, fault.Failed,
			"not a valid folder name",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newHarness(t)
			if c.config != "" {
				r.write("etc/cis490/"+string(c.role)+".toml", c.config)
			}
			before := r.tree()
			o := r.options(c.role)
			if c.change != nil {
				c.change(&o)
			}
			_, err := install.New(o)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.CodeOf(err) != c.code {
				t.Fatalf("error %v, code %d", err, fault.CodeOf(err))
			}
			if c.code != fault.Failed && fault.FixOf(err) == "" {
				t.Error("the error has no fix")
			}
			if len(o.Token) > 10 && strings.Contains(err.Error(), o.Token) {
				t.Error("the token is shown")
			}
			if diff := cmp.Diff(before, r.tree()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfig_WrittenOnceAndNeverEdited(t *testing.T) {
	r := newHarness(t)
	r.enrolls()
	r.apply(r.options(install.LabHost))
	got, unknown, err := config.ParseLabHost("x", []byte(r.read("etc/cis490/lab-host.toml")))
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	want := config.DefaultLabHost()
	want.Host, want.Receiver.URL, want.Authority.URL = "lab-01", "https://collector.lab:8443", "https://collector.lab:8444"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	own := "# ours\ndata_dir = \"/srv/cis490\"\n" + labConfig
	r.write("etc/cis490/lab-host.toml", own)
	r.apply(r.options(install.LabHost))
	if r.read("etc/cis490/lab-host.toml") != own {
		t.Error("the site's config was changed")
	}
	if !r.exists("srv/cis490/outbox") ||
		!strings.Contains(r.read("etc/systemd/system/cis490-shipper.service"), "ReadWritePaths=/srv/cis490\n") {
		t.Error("the site's data_dir is not followed")
	}
}

func TestConfig_ReceiverListensOnItsPublicPort(t *testing.T) {
	for url, listen := range map[string]string{
		"https://collector.lab:8443": ":8443",
		"https://collector.lab:9443": ":9443",
		"https://collector.lab":      ":443",
	} {
		r := newHarness(t)
		o := r.options(install.Receiver)
		o.PublicURL = url
		r.apply(o)
		got, _, err := config.ParseReceiver("x", []byte(r.read("etc/cis490/receiver.toml")))
		if err != nil || got.Listen != listen || got.PublicURL != url {
			t.Errorf("%s: listens on %q, %v", url, got.Listen, err)
		}
		unit := r.read("etc/systemd/system/cis490-receiver.service")
		if strings.Contains(unit, "CAP_NET_BIND_SERVICE") != (listen == ":443") {
			t.Errorf("%s: %s", url, unit)
		}
	}
}
