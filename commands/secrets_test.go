package commands_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/commands"
	"cis490/internal/version"
)

// runHere runs the program in this process.
func runHere(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = commands.Main(context.WithoutCancel(t.Context()), append([]string{"cis490"}, args...), commands.Env{
		In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" },
		Build: version.Read("1.2.3-test", testCommit, "false"),
	})
	return code, o.String(), e.String()
}

// TestErrors_ShowNoSecret: a secret in the wrong place does not appear in an error.
func TestErrors_ShowNoSecret(t *testing.T) {
	const token = "c490.eyJob3N0IjoibGFiLTAxIiwi-s3cretXYZ"
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = "public_url = \"https://h:1\"\n"
	for _, args := range [][]string{
		{"install", "lab-host", "--root", dir, "--join", token},
		{"install", "lab-host", token},
		{"install", token},
		{"token", "create", token},
		{"token", "revoke", token},
		{"host", "show", token},
		{"host", "show", "lab-01", token},
		{token},
		{"status", token},
		{"--" + token},
		{"install", "receiver", "--root", dir + "/new", "--no-start", "--public-url", "https://admin:s3cret@h:8443/"},
		{"install", "receiver", "--root", dir + "/other", "--no-start", "--public-url", "https://h:8443/?token=s3cret"},
		{"config", "check", file("a.toml", good+"operator_file = \"s3cret\"\n")},
		{"config", "check", file("b.toml", good+"[notify]\nurls_file = \"smtp://u:s3cret@mail\"\n")},
		{"config", "check", file("c.toml", "public_url = \"https://u:s3cret@h:1\"\n")},
		{"serve", "--config", file("d.toml", good+"[tls]\nkey = '''-----BEGIN PRIVATE KEY-----\ns3cret'''\n")},
		{"ship", "--ping", "--config", file("e.toml", "host = \""+token+"\"\n[receiver]\nurl = \"https://h/?key=s3cret\"\n")},
		{"alerts", "silence", "lab-01", token, "--config", filepath.Join(dir, "c.toml")},
		{"doctor", "--config", file("f.toml", "host = \"https://u:s3cret@h\"\n")},
		{"doctor", "--json", "--config", file("g.toml", "public_url = \"https://u:s3cret@h\"\n")},
		{"status", "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----"},
		{"-------BEGIN PRIVATE KEY-----\ns3cret"},
		{"host", "show", "Bearer baleFvy3_ly-s3cretwedu2474fDt2vWa78BX6n7-GT"},
		{"--baleFvy3_ly-s3cretwedu2474fDt2vWa78BX6n7-GT"},
		{"backup", "smtp://u:pass/s3cret@mail"},
		{"backup", "smtp://u:p@ss#s3cret@mail"},
		{"doctor", "--only", token},
		{"episode", "show", token},
		{"restore", "https://u:s3cret@h/x"},
	} {
		code, out, errs := runHere(t, args...)
		if code == 0 || strings.Contains(out+errs, "s3cret") {
			t.Errorf("%.100q: exit code %d:\n%s%s", args, code, out, errs)
		}
	}
}

// TestOutput_HasNoHiddenCharacters: neither of an argument, nor of a file name or a config.
func TestOutput_HasNoHiddenCharacters(t *testing.T) {
	const evil = "a\x1b[31m\u202eb\u200b\rc\xff"
	dir := t.TempDir()
	path := filepath.Join(dir, "x\x1b[2J\u202e.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "public_url = 3\n[\"%s\"]\n", "\u202ekey"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"status", evil},
		{evil},
		{"--" + evil},
		{"config", "check", path},
		{"config", "check", filepath.Join(dir, evil)},
		{"doctor", "--only", evil},
		{"doctor", "--role", "receiver", "--config", path},
		{"host", "show", evil},
		{"serve", "--log-level", evil},
	} {
		code, out, errs := runHere(t, args...)
		if code == 0 || strings.ContainsAny(out+errs, "\x1b\r\u202e\u200b") || strings.Contains(out+errs, "\xff") {
			t.Errorf("%q: exit code %d:\n%q", args, code, out+errs)
		}
	}
}

// TestShip_AnImpossibleNameStopsNothing: a ULID of the year 10889 has a time that a ping
// cannot carry.
func TestShip_AnImpossibleNameStopsNothing(t *testing.T) {
	r := newSite(t)
	r.record(2, 1<<10)
	dir := filepath.Join(r.path("data"), "episodes", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
	r.must(os.Mkdir(dir, 0o770))
	r.must(os.WriteFile(filepath.Join(dir, "done.marker"), nil, 0o660))
	for _, flag := range []string{"--ping", "--once", "--ping"} {
		if code, out, errs := runHere(t, "ship", flag, "--config", r.path("lab.toml")); code != 0 {
			t.Errorf("ship %s: exit code %d: %s%s", flag, code, out, errs)
		}
	}
	if r.stored() != 2 {
		t.Errorf("%d episodes are stored, want 2", r.stored())
	}
	if code, _, errs := runHere(t, "status", "--config", r.path("lab.toml")); code != 0 {
		t.Errorf("status: exit code %d: %s", code, errs)
	}
}
