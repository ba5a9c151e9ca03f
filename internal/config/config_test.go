package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/config"
	"cis490/internal/fault"
)

// uncomment turns "# key = value" into "key = value".
func uncomment(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAll(b, []byte("$1"))
}

func TestExamples_EqualTheDefaults(t *testing.T) {
	lab := strings.Replace(string(uncomment(t, "../../assets/config/lab-host.toml")), "REPLACE_ME", "lab-01", 1)
	lab = strings.ReplaceAll(lab, "REPLACE_ME", "https://collector.lab:8443")
	got, unknown, err := config.ParseLabHost("x", []byte(lab))
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	want := config.DefaultLabHost()
	want.Host, want.Receiver.URL, want.Authority.URL = got.Host, got.Receiver.URL, got.Authority.URL
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	rx := strings.Replace(string(uncomment(t, "../../assets/config/receiver.toml")), "REPLACE_ME", "https://collector.lab:8443", 1)
	gotRx, unknown, err := config.ParseReceiver("x", []byte(rx))
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	wantRx := config.DefaultReceiver()
	wantRx.PublicURL, wantRx.Authority.URL = gotRx.PublicURL, "https://collector.lab:8444"
	wantRx.Authority.Names, wantRx.Gate.ExtraCommits, wantRx.Gate.BlockedCommits = gotRx.Authority.Names, gotRx.Gate.ExtraCommits,
		gotRx.Gate.BlockedCommits
	wantRx.Balancer.From = gotRx.Balancer.From // also empty
	if diff := cmp.Diff(wantRx, gotRx); diff != "" {
		t.Error(diff)
	}
}

func TestParse_NamesPlaceAndFix(t *testing.T) {
	const good = "host = \"lab-01\"\n[receiver]\nurl = \"https://r:1\"\n[authority]\nurl = \"https://r:2\"\n"
	for name, c := range map[string]struct{ content, want string }{
		"placeholder":   {strings.Replace(good, "lab-01", "REPLACE_ME", 1), `x:1:1: host: `},
		"bad URL":       {strings.Replace(good, "https://r:1", "http://r", 1), `x:3:1: receiver.url: want "https://NAME:PORT"`},
		"no name":       {strings.Replace(good, "https://r:1", "https://:1", 1), `x:3:1: receiver.url: want "https://NAME:PORT"`},
		"no port":       {strings.Replace(good, "https://r:1", "https://r:99999", 1), `x:3:1: receiver.url: want "https://NAME:PORT"`},
		"bad type":      {good + "[ship]\nshipped_keep_days = \"a\"\n", `x:7:`},
		"bad period":    {good + "[ship]\nping_every = \"5\"\n", `want a duration`},
		"mistyped unit": {good + "[ship]\nidle_timeout = \"60us\"\n", `ship.idle_timeout: want 1s or more, got 60µs`},
		"bad size":      {good + "[ship]\nshipped_keep_bytes = \"big\"\n", `want a size`},
		"no TOML":       {"host = ", `x:1:`},
		"negative":      {good + "[ship]\nshipped_keep_days = -1\n", `x:7:1: ship.shipped_keep_days: want 0 or more`},
	} {
		_, _, err := config.ParseLabHost("x", []byte(c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
		if fault.CodeOf(err) != fault.Config || fault.FixOf(err) == "" {
			t.Errorf("%s: code %d, fix %q", name, fault.CodeOf(err), fault.FixOf(err))
		}
	}
}

// TestLoad_NamesWhatMendsIt: install does not write where a file exists.
func TestLoad_NamesWhatMendsIt(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed.toml")
	if err := os.WriteFile(closed, nil, 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		fix  string
		code int
	}{
		filepath.Join(dir, "none.toml"): {"sudo cis490 install", fault.Config},
		dir:                             {"must be a file", fault.Config},
		closed:                          {"run it again with sudo", fault.NoPerm},
	} {
		if path == closed && os.Geteuid() == 0 {
			continue // root reads it
		}
		_, _, err := config.LoadReceiver(path)
		if !strings.Contains(fault.FixOf(err), want.fix) || fault.CodeOf(err) != want.code {
			t.Errorf("%v: code %d, fix %q", err, fault.CodeOf(err), fault.FixOf(err))
		}
	}
}

// TestParse_RefusesWhatTheDecoderTakesUnread: a period without a unit would be nanoseconds,
// and a misspelt commit would block nothing.
func TestParse_RefusesWhatTheDecoderTakesUnread(t *testing.T) {
	const url = "public_url = \"https://r:1\"\n"
	for content, want := range map[string]string{
		url + "[limits]\nidle_timeout = 60\n":                           `x:3:1: limits.idle_timeout: want a duration such as`,
		url + "limits = { idle_timeout = 60 }\n":                        `limits.idle_timeout: want a duration such as`,
		url + "[limits]\ndisk_reserve = -1\n":                           `x:3:1: limits.disk_reserve: want a size such as`,
		url + "[limits]\nunpacked_size = \"65GiB\"\n":                   `x:3:1: limits.unpacked_size: want "1 B" to "64 GiB"`,
		url + "[limits]\nunpacked_files = 0\n":                          `x:3:1: limits.unpacked_files: want 1 to 10000, got 0`,
		url + "[limits]\nunpacked_depth = 9\n":                          `x:3:1: limits.unpacked_depth: want 0 to 8, got 9`,
		url + "listen = \":99999\"\n":                                   `x:2:1: listen: want "ADDRESS:PORT"`,
		url + "[authority]\nlisten = \"::1\"\n":                         `x:3:1: authority.listen: want "ADDRESS:PORT"`,
		url + "[gate]\nblocked_commits = [\"abc\"]\n":                   `x:3:1: gate.blocked_commits: commit "abc": want 40`,
		url + "[balancer]\nfrom = [\"10.0.0.300\"]\n":                   `x:3:1: balancer.from: want addresses or networks`,
		url + "[balancer]\nfrom = [\"::1\"]\n[tls]\nmode = \"proxy\"\n": `x:3:1: balancer.from: works with tls.mode = "direct" only`,
		url + "[balancer]\ndrain = \"2m\"\n":                            `x:3:1: balancer.drain: want 0s to 1m0s, got 2m0s`,
		url + "[gate]\nextra_commits = [\n  \"0123\",\n]\n":             `x:3:1: gate.extra_commits: commit "0123": want 40`,
	} {
		_, _, err := config.ParseReceiver("x", []byte(content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", content, err, want)
		}
	}
	limits := "[limits]\nhost_quota = 0\nepisode_size = 4096\nidle_timeout = \"60s\"\n"
	if _, _, err := config.ParseReceiver("x", []byte(url+limits)); err != nil {
		t.Errorf("a size in bytes: %v", err)
	}
}

func TestParse_UnknownKeyIsToldButDoesNotStop(t *testing.T) {
	c, unknown, err := config.ParseLabHost("x", []byte("hots = \"y\"\nhost = \"lab-01\"\n"+
		"[receiver]\nurl = \"https://r:1\"\n[authority]\nurl = \"https://r:2\"\n[ship]\nping_evry = \"1m\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "lab-01" || len(unknown) != 2 {
		t.Fatalf("host %q, unknown %v", c.Host, unknown)
	}
	for i, want := range []string{
		`x:1:1: hots: unknown key (did you mean "host"?)`,
		`x:8:1: ship.ping_evry: unknown key (did you mean "ship.ping_every"?)`,
	} {
		if got := unknown[i].Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// FuzzParse: an error always has a place, or is about a key that is absent.
func FuzzParse(f *testing.F) {
	f.Add([]byte("host = \"lab-01\""))
	f.Add([]byte("[ship]\nping_every = \"-5m\""))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := config.ParseReceiver("x", b)
		if err != nil && !strings.HasPrefix(err.Error(), "x") {
			t.Errorf("%q: no place in %q", b, err)
		}
	})
}

// TestErrors_ShowNoValue: a secret in the wrong place is in no error, whatever key it
// stands under and whatever type it has.
func TestErrors_ShowNoValue(t *testing.T) {
	secrets := []string{
		`"s3cret"`, `"smtp://u:s3cret@mail.example/?from=x"`, `"https://u:s3cret@h/p?token=s3cret"`,
		"\"\"\"-----BEGIN PRIVATE KEY-----\ns3cret\n\"\"\"", `["s3cret"]`, `{ s3cret = 1 }`, "s3cret",
	}
	for _, key := range []string{
		"public_url", "listen", "data_dir", "operator_file", "tls.mode", "tls.certificate", "tls.key", "tls.root", "tls.socket", "authority.url",
		"authority.listen", "balancer.from", "balancer.drain",
		"authority.dir", "authority.socket", "authority.token_ttl", "authority.names", "gate.enabled", "gate.extra_commits",
		"gate.blocked_commits", "limits.episode_size",
		"limits.uploads", "limits.idle_timeout", "fleet.silent_after", "notify.urls_file", "notify.webhook_url", "notify.webhook_token_file",
		"notify.alertmanager_url",
		"notify.heartbeat_url", "notify.repeat_after", "host", "certs_dir", "receiver.url", "ship.ping_every", "ship.bandwidth_per_second",
		"orchestrate.experiment",
	} {
		for _, secret := range secrets {
			content := []byte(key + " = " + secret + "\n")
			_, unknown, err := config.ParseReceiver("x", content)
			_, others, lab := config.ParseLabHost("x", content)
			for _, e := range append(append(unknown, others...), &config.Error{Why: fmt.Sprint(err, lab)}) {
				if strings.Contains(strings.ReplaceAll(e.Error(), ".s3cret: unknown key", ""), "s3cret") {
					t.Errorf("%s: %v", content, e)
				}
			}
		}
	}
}

func TestBalancer_Prefixes(t *testing.T) {
	b := config.Balancer{From: []string{"::ffff:10.0.0.5", "::ffff:10.1.0.0/112", "10.2.0.0/16", "2001:db8::/64"}}
	if got := fmt.Sprint(b.Prefixes()); got != "[10.0.0.5/32 10.1.0.0/16 10.2.0.0/16 2001:db8::/64]" {
		t.Error(got)
	}
}
