package commands_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	labchecks "cis490/agent/checks"
	"cis490/internal/check"
	"cis490/internal/pki"
	rxchecks "cis490/receiver/checks"
)

// registries are the checks of both roles.
func registries() map[string][]check.Check {
	return map[string][]check.Check{
		"Lab host": labchecks.Checks(labchecks.Options{}), "Receiver": rxchecks.Checks(rxchecks.Options{}),
	}
}

// TestRegistry_IsComplete: every check has what a person needs to act.
func TestRegistry_IsComplete(t *testing.T) {
	total := 0
	for role, checks := range registries() {
		seen := map[string]bool{}
		for _, k := range checks {
			total++
			switch {
			case !regexp.MustCompile(`^[a-z]+\.[a-z]+$`).MatchString(k.ID), seen[k.ID]:
				t.Errorf("%s: id %q is malformed or there twice", role, k.ID)
			case k.Title == "" || k.Doc == "" || k.Run == nil || (k.Severity != check.Hard && k.Severity != check.Soft):
				t.Errorf("%s: %s is incomplete", role, k.ID)
			case !strings.Contains(k.Fix, "on the lab host") && !strings.Contains(k.Fix, "on the receiver"):
				t.Errorf("%s: the fix of %s names no machine: %s", role, k.ID, k.Fix)
			case strings.ContainsAny(k.Fix, "\n\r"):
				t.Errorf("%s: the fix of %s is more than a line", role, k.ID)
			}
			seen[k.ID] = true
		}
	}
	if total < 40 {
		t.Errorf("only %d checks", total)
	}
}

// TestChecksDoc_IsTheRegistry compares docs/checks.md with the registry; -update writes it.
func TestChecksDoc_IsTheRegistry(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Checks\n\nWhat `cis490 doctor` checks. If a hard check fails, the machine cannot do its work: doctor\n" +
		"exits with 1, and the next ping reports it to the receiver. A soft check only warns.\n" +
		"Generated from the registry by `go test ./commands -run TestChecksDoc -update`.\n")
	for _, role := range []string{"Lab host", "Receiver"} {
		fmt.Fprintf(&b, "\n## %s\n", role)
		for _, k := range registries()[role] {
			fmt.Fprintf(&b, "\n<a id=\"%s.%s\"></a>\n### %s\n%s (%s).\n%s\n\nFix:\n```\n%s\n```\n",
				strings.ReplaceAll(strings.ToLower(role), " ", "-"), k.ID, k.ID, k.Title, k.Severity, k.Doc, k.Fix)
		}
	}
	path := filepath.Join("..", "docs", "checks.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("run with -update:\n%s", diff)
	}
}

// fakeMachine is the files of a lab host and a receiver in a folder, with secrets that must
// not be printed.
type fakeMachine struct{ dir, lab, rx string }

const secret = "S3CR3T-never-to-be-seen"

func newMachine(t *testing.T) fakeMachine {
	t.Helper()
	m := fakeMachine{dir: t.TempDir()}
	m.lab, m.rx = filepath.Join(m.dir, "lab-host.toml"), filepath.Join(m.dir, "receiver.toml")
	write := func(name, content string, perm os.FileMode) {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), perm); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	ca, err := pki.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Client(key.Public(), "lab-01", now, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("certs/ca.crt", string(pki.EncodeCerts(ca.Cert)), 0o644)
	write("certs/lab-host.pem", string(pki.EncodeCerts(cert))+string(keyPEM), 0o600)
	write("certs/bearer", secret, 0o600)
	write("certs/join-token", "c490."+secret, 0o600)
	write("operator", secret, 0o600)
	write("authority/ca.key", secret, 0o600)
	write("data/.keep", "", 0o600)
	write("rx/.keep", "", 0o600)
	write("lab-host.toml", fmt.Sprintf("host = \"lab-01\"\ndata_dir = %q\ncerts_dir = %q\nbearer = %q\n"+
		"[receiver]\nurl = \"https://127.0.0.1:1\"\n[authority]\nurl = \"https://127.0.0.1:1\"\n[orchestrate]\ndisk_reserve = \"1KiB\"\n",
		filepath.Join(m.dir, "data"), filepath.Join(m.dir, "certs"), secret), 0o600)
	write("receiver.toml", fmt.Sprintf("public_url = \"https://127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\ndata_dir = %q\n"+
		"operator_file = %q\ntoken = %q\n"+
		"[authority]\ndir = %q\nlisten = \"127.0.0.1:1\"\n[limits]\ndisk_reserve = \"1KiB\"\n"+
		"[notify]\nwebhook_url = \"https://127.0.0.1:1/%s\"\n",
		filepath.Join(m.dir, "rx"), filepath.Join(m.dir, "operator"), secret, filepath.Join(m.dir, "authority"), secret), 0o600)
	return m
}

// TestDoctor_JSONIsOfItsSchema validates doctor's output for both roles, with good, missing
// and broken configs, and checks that it has no secret.
func TestDoctor_JSONIsOfItsSchema(t *testing.T) {
	schema := readSchema(t)
	m := newMachine(t)
	for _, name := range []string{"HTTPS_PROXY", "CIS490_BEARER", "NOTIFY_SOCKET"} {
		t.Setenv(name, "http://me:"+secret+"@127.0.0.1:1")
	}
	broken := filepath.Join(m.dir, "broken.toml")
	if err := os.WriteFile(broken, []byte("token = \""+secret+"\"\nhost = "), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--config", m.lab},
		{"--config", m.rx},
		{"--config", broken, "--role", "lab-host"},
		{"--config", broken, "--role", "receiver"},
		{"--config", m.dir + "/absent", "--role", "receiver"},
		{"--config", m.rx, "--deep"},
		{"--config", m.lab, "--fix"},
	} {
		out, errOut, code := run(t, append([]string{"doctor", "--json"}, args...)...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%v: %v: %s %s", args, err, out, errOut)
		}
		for _, bad := range schema.errors("$", v) {
			t.Errorf("%v: %s", args, bad)
		}
		var r check.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1}[r.Summary.Fail > 0]; code != want {
			t.Errorf("%v: code %d with %+v", args, code, r.Summary)
		}
		text, textErr, textCode := run(t, append([]string{"doctor"}, args...)...)
		if textCode != code {
			t.Errorf("%v: text ends with %d, JSON with %d", args, textCode, code)
		}
		for _, shown := range []string{out, errOut, text, textErr} {
			if strings.Contains(shown, secret) || strings.Contains(shown, "PRIVATE KEY") || strings.ContainsRune(shown, '\x1b') {
				t.Errorf("%v shows a secret or an escape:\n%s", args, shown)
			}
		}
	}
}

// TestDoctor_ExitCodeIsOfTheWorstRow: warnings fail only with --strict, also
// with --only.
func TestDoctor_ExitCodeIsOfTheWorstRow(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--only", "cert.expiry"}, 0},
		{[]string{"--only", "cert.expiry", "--strict"}, 0},
		{[]string{"--only", "config.valid"}, 0}, // an unknown key warns
		{[]string{"--only", "config.valid", "--strict"}, 1},
		{[]string{"--only", "receiver.reachable"}, 1},
		{[]string{"--only", "no.such"}, 64},
		{[]string{"surplus"}, 64},
		{[]string{"--role", "king"}, 64},
	} {
		if _, errOut, code := run(t, append([]string{"doctor", "--config", m.lab}, c.args...)...); code != c.want {
			t.Errorf("%v: code %d, want %d: %s", c.args, code, c.want, errOut)
		}
	}
}

// TestDoctor_KnowsTheLastBackup from the note of backup, wherever the file is.
func TestDoctor_KnowsTheLastBackup(t *testing.T) {
	m := newMachine(t)
	ca := filepath.Join(m.dir, "authority", "ca.crt")
	if err := os.WriteFile(ca, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-8 * 24 * time.Hour)
	if err := os.Chtimes(ca, old, old); err != nil {
		t.Fatal(err)
	}
	age := []string{"doctor", "--config", m.rx, "--only", "backup.age"}
	if out, _, _ := run(t, age...); !strings.Contains(out, "warn  backup.age") ||
		!strings.Contains(out, "fix: on the receiver: sudo cis490 backup ") {
		t.Errorf("without a backup: %s", out)
	}
	file := filepath.Join(m.dir, "safe.tar.gz")
	if _, errOut, code := run(t, "backup", "--config", m.rx, "--to", file); code != 0 {
		t.Fatalf("backup: %d %s", code, errOut)
	}
	if out, _, _ := run(t, age...); !strings.Contains(out, "ok    backup.age") || !strings.Contains(out, file) {
		t.Errorf("with a backup: %s", out)
	}
}

// TestDoctor_ListNamesAnchors: each check's section is in docs/checks.md.
func TestDoctor_ListNamesAnchors(t *testing.T) {
	out, _, code := run(t, "doctor", "--list", "--json")
	page, err := os.ReadFile(filepath.Join("..", "docs", "checks.md"))
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	dec, n := json.NewDecoder(strings.NewReader(out)), 0
	for dec.More() {
		var all []struct{ Docs string }
		if err := dec.Decode(&all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			n++
			if _, anchor, ok := strings.Cut(e.Docs, "docs/checks.md#"); !ok || !strings.Contains(string(page), `<a id="`+anchor+`"></a>`) {
				t.Errorf("%q is nowhere", e.Docs)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d checks", n)
	}
}

func TestDoctor_FixTightensCredentialsAndNothingElse(t *testing.T) {
	m := newMachine(t)
	bearer, outside := filepath.Join(m.dir, "certs", "bearer"), filepath.Join(m.dir, "outside")
	token := filepath.Join(m.dir, "certs", "join-token")
	if err := os.Chmod(bearer, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(outside, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, token); err != nil {
		t.Fatal(err)
	}
	_, errOut, _ := run(t, "doctor", "--config", m.lab, "--only", "files.secret", "--fix")
	if !strings.Contains(errOut, "fixed files.secret: set mode of "+bearer+" to 0600") {
		t.Errorf("does not say what it did: %s", errOut)
	}
	for path, want := range map[string]os.FileMode{bearer: 0o600, outside: 0o666} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has %o, want %o", path, fi.Mode().Perm(), want)
		}
	}
}

// TestDoctor_TextIsGolden compares a report with a golden file, without what differs
// between machines.
func TestDoctor_TextIsGolden(t *testing.T) {
	m := newMachine(t)
	if err := os.Remove(filepath.Join(m.dir, "certs", "bearer")); err != nil {
		t.Fatal(err)
	}
	out, _, _ := run(t, "doctor", "--config", m.lab, "--only", "config.valid", "--only", "cert.host", "--only", "bearer.present",
		"--only", "users.exist")
	out = strings.ReplaceAll(out, m.dir, "DIR")
	want := `lab-host lab-01, version 1.2.3-test

 FAIL  bearer.present  Bearer token exists: cannot open DIR/certs/bearer: it does not exist
                       fix: on the receiver: sudo cis490 token create lab-01   # then paste what it prints on the lab host
 warn  config.valid    Config is valid: DIR/lab-host.toml:4:1: bearer: unknown key
                       fix: on the lab host: sudo cis490 config check   # then edit DIR/lab-host.toml
 skip  users.exist     Users exist: this host runs under one user
 ok    cert.host       Certificate names this host: lab-01

1 ok, 1 warning, 1 failed, 1 skipped
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}

// schema is the part of JSON Schema that doctor.schema.json uses.
type schema struct {
	Const      any               `json:"const"`
	Enum       []any             `json:"enum"`
	Type       string            `json:"type"`
	Pattern    string            `json:"pattern"`
	Format     string            `json:"format"`
	Minimum    *float64          `json:"minimum"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	// The rest is for people; any other keyword would be ignored silently.
	Schema, ID, Title, Description any
}

func readSchema(t *testing.T) schema {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "doctor.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte(`"$schema"`), []byte(`"schema_"`)), []byte(`"$id"`), []byte(`"id_"`))
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s schema) errors(at string, v any) []string {
	var bad []string
	add := func(format string, args ...any) { bad = append(bad, at+": "+fmt.Sprintf(format, args...)) }
	if s.Const != nil && v != s.Const {
		add("is %v, want %v", v, s.Const)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		add("%v is none of %v", v, s.Enum)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range s.Required {
			if _, ok := v[k]; !ok {
				add("lacks %s", k)
			}
		}
		for k, x := range v {
			p, ok := s.Properties[k]
			if !ok {
				add("%s is not in the schema", k) // must be documented, although readers ignore it
				continue
			}
			bad = append(bad, p.errors(at+"."+k, x)...)
		}
	case []any:
		for i, x := range v {
			bad = append(bad, s.Items.errors(fmt.Sprintf("%s[%d]", at, i), x)...)
		}
	case string:
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			add("%q does not match %s", v, s.Pattern)
		}
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && err != nil {
			add("%v", err)
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum {
			add("%v is below %v", v, *s.Minimum)
		}
	}
	kinds := map[string]bool{
		"object": isA[map[string]any](v), "array": isA[[]any](v), "string": isA[string](v), "integer": isA[float64](v),
		"boolean": isA[bool](v), "": true,
	}
	if !kinds[s.Type] {
		add("want type %s", s.Type)
	}
	return bad
}

func isA[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
