package install_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/install"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// harness is a machine below a temporary folder with a service manager that
// remembers what it was asked.
type harness struct {
	t       *testing.T
	root    string
	binary  string
	version string
	manager *manager
	out     bytes.Buffer
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	r := &harness{t: t, root: t.TempDir(), version: "v1.0.0"}
	r.binary = r.carried("first build")
	r.manager = &manager{root: r.root, units: map[string]*install.UnitState{}}
	return r
}

// carried makes a binary outside the machine, as a person brings it.
func (r *harness) carried(content string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "cis490")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *harness) options(role install.Role) install.Options {
	o := install.Options{
		Role: role, Root: r.root, Binary: r.binary, Manager: r.manager, Out: &r.out, Verbose: true,
		Build: version.Info{Version: r.version, Commit: commit, OS: "linux", Arch: "amd64"},
	}
	if role == install.LabHost {
		o.Token = token("lab-01").String()
	} else {
		o.PublicURL = "https://collector.lab:8443"
	}
	return o
}

func token(host string) wire.Token {
	return wire.Token{
		Host: ident.Host(host), Receiver: "https://collector.lab:8443", Authority: "https://collector.lab:8444",
		Pin: strings.Repeat("0", 64), Secret: wire.NewTokenSecret([16]byte([]byte(host + strings.Repeat("-", 16))[:16])),
	}
}

// apply installs and returns what was printed and asked of the manager.
func (r *harness) apply(o install.Options) (out string, calls []string) {
	r.t.Helper()
	r.out.Reset()
	r.manager.calls = nil
	p, err := install.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := p.Apply(r.t.Context()); err != nil {
		r.t.Fatalf("%v\n%s", err, r.out.String())
	}
	return r.out.String(), r.manager.calls
}

// drift returns what --check prints, and how much differs.
func (r *harness) drift(o install.Options) (string, int) {
	r.t.Helper()
	r.out.Reset()
	p, err := install.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	n, err := p.Drift(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.out.String(), n
}

func (r *harness) path(name string) string { return filepath.Join(r.root, name) }

func (r *harness) write(name, content string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *harness) read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

func (r *harness) exists(name string) bool {
	_, err := os.Lstat(r.path(name))
	return err == nil
}

// tree describes everything below the root: modes, times, targets, content.
func (r *harness) tree() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(fi.Mode(), fi.ModTime())
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " " + target
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(b)
		}
		all[strings.TrimPrefix(path, r.root)] = text
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// manager is a service manager without services.
type manager struct {
	root  string
	units map[string]*install.UnitState
	calls []string
	fetch func() error // what cert-fetch does
	logs  string       // what it logs as errors
	fail  string       // a call that fails
	ends  string       // a unit that is down once a call failed
}

func (m *manager) unit(name string) *install.UnitState {
	if m.units[name] == nil {
		m.units[name] = &install.UnitState{Name: name}
	}
	return m.units[name]
}

func (m *manager) States(_ context.Context, names ...string) ([]install.UnitState, error) {
	var all []install.UnitState
	for _, name := range names {
		u := m.unit(name)
		_, err := os.Lstat(filepath.Join(m.root, "etc/systemd/system", name))
		u.Known = err == nil || u.Active
		all = append(all, *u)
	}
	return all, nil
}

func (m *manager) call(what string) error {
	m.calls = append(m.calls, what)
	if what == m.fail {
		if m.ends != "" {
			m.unit(m.ends).Active = false
		}
		return fmt.Errorf("%s: refused", what)
	}
	return nil
}

func (m *manager) Systemctl(_ context.Context, args ...string) error {
	if err := m.call(strings.Join(args, " ")); err != nil {
		return err
	}
	units := slices.DeleteFunc(slices.Clone(args[1:]), func(a string) bool { return strings.HasPrefix(a, "--") })
	switch args[0] {
	case "daemon-reload":
		for _, u := range m.units {
			u.NeedReload = false
		}
	case "enable", "disable":
		for _, u := range units {
			m.unit(u).Enabled = args[0] == "enable"
		}
	case "start":
		if m.fetch != nil {
			return m.fetch()
		}
	}
	return nil
}

func (m *manager) Errors(context.Context, string) string { return m.logs }

func (m *manager) Start(_ context.Context, unit string) error {
	if err := m.call("start " + unit); err != nil {
		return err
	}
	u := m.unit(unit)
	u.Active = true
	if strings.HasSuffix(unit, ".service") {
		u.Started = time.Now()
		u.Program, _ = os.Stat(filepath.Join(m.root, "opt/cis490/current/cis490"))
	}
	return nil
}

func (m *manager) Stop(_ context.Context, unit string) error {
	m.unit(unit).Active = false
	return m.call("stop " + unit)
}

func (m *manager) Restart(ctx context.Context, unit string) error {
	err := m.Start(ctx, unit)
	m.unit(unit).Stuck = false
	m.calls[len(m.calls)-1] = "restart " + unit
	return err
}
