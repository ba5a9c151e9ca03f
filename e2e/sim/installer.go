package sim

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"cis490/install"
	"cis490/internal/disk"
)

// installUnits writes the units of the receiver, and enables them.
func (r *Receiver) installUnits() error {
	for _, name := range install.Receiver.Units() {
		content, err := install.Render(name, install.UnitData{Exec: r.program(), Good: r.program(), Store: rxData, AuthorityDir: rxAuthority})
		if err != nil {
			return err
		}
		if err := r.write(filepath.Join(unitDir, name), content); err != nil {
			return err
		}
	}
	return manager{r.Machine}.Systemctl(r.w.ctx, append([]string{"enable"}, install.Receiver.Units()...)...)
}

// write writes a file of the machine, as a person does.
func (m *Machine) write(name string, content []byte) error {
	fsys, path := m.person().fs, filepath.Join(m.root, name)
	if err := disk.MkdirAll(fsys, filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, path, 0o755, content)
}

// Paths from which a person runs the program: the copied file, and the installed one.
const (
	carried   = "/root/cis490"
	installed = "/usr/local/bin/cis490"
)

// install is `cis490 install lab-host`, run from a path.
func (h *Host) install(program string) error {
	p := h.person()
	if err := h.converge(p, program, false); err != nil {
		return err
	}
	h.w.wg.Go(func() { h.w.watchInstalled(h) })
	return nil
}

// converge runs the install of a program, by a person or an update.
func (h *Host) converge(p *Proc, program string, update bool) error {
	var b Binary
	content, err := readFile(p.fs, filepath.Join(hostRoot, program))
	if err == nil {
		err = json.Unmarshal(content, &b)
	}
	if err != nil {
		return err
	}
	plan, err := install.New(install.Options{
		Role: install.LabHost, Root: hostRoot, Binary: filepath.Join(hostRoot, program), Build: b.Info, Update: update,
		Manager: manager{h.Machine}, FS: p.fs, Now: h.Clock.Now,
		Lock: func(ctx context.Context) (func(), error) { return h.lockInstall(ctx, p, update) },
	})
	if err != nil {
		return err
	}
	return plan.Apply(p.ctx)
}

// lockInstall takes the lock of installs and updates. An update already holds it.
func (h *Host) lockInstall(ctx context.Context, p *Proc, held bool) (func(), error) {
	if held {
		return func() {}, nil
	}
	for {
		l, err := p.fs.Lock(hostOpt)
		if err == nil {
			return func() { _ = l.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// replace installs a build over another, as a person does.
func (h *Host) replace(b Binary) error {
	if !h.On() {
		return errors.New("the machine is off")
	}
	if err := h.write(carried, b.bytes()); err != nil {
		return err
	}
	return h.install(carried)
}

// handInstalls is a person who installs a build with another encoder, or the same build again.
func handInstalls(w *World, m *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	switch {
	case !m.On():
	case f.N&1 != 0:
		w.trace(m.name, "installed again: %v", h.install(installed))
	default:
		b := binary(0)
		b.Version, b.Encoder = "1.0.0-hand", 2
		w.trace(m.name, "another build installed: %v", h.replace(b))
	}
}

// breaksInstall is a person who disables or removes a host's units, and installs again some
// minutes later.
func breaksInstall(w *World, m *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	if _, err := h.binary("current"); err != nil || !m.On() {
		return
	}
	units := install.LabHost.Units()
	if f.N&1 != 0 {
		for _, name := range units {
			_ = m.disk.Remove(filepath.Join(m.root, unitDir, name))
		}
		units = units[:0]
	}
	for _, name := range units {
		if disk.Exists(m.disk, filepath.Join(m.root, wantsDir, name)) {
			_ = manager{m}.Systemctl(w.ctx, "disable", name)
		}
	}
	_ = manager{m}.Systemctl(w.ctx, "daemon-reload")
	w.wg.Go(func() {
		select {
		case <-w.ctx.Done():
		case <-time.After(time.Duration(f.N%600) * time.Second):
			w.insist(m.name, "install again", func() error { return h.install(installed) })
		}
	})
}

// watchInstalled: after an install the installed build runs, now and after the next boot.
func (w *World) watchInstalled(h *Host) {
	boot, began := h.BootID(), time.Since(w.began)
	select {
	case <-w.ctx.Done():
		return
	case <-time.After(time.Minute):
	}
	if !h.On() || h.BootID() != boot || w.recently(time.Hour, func(f Fault) bool {
		hands := f.Kind == "host-install" || f.Kind == "host-broken"
		return w.kinds[f.Kind].Party == OfHost && w.target(f) == h.Machine && (!hands || f.At > began)
	}) {
		return
	}
	w.book.count()
	current, err := h.person().fs.Stat(h.program())
	if err != nil {
		w.book.breaks("the installed build runs", "", "%s: %v", h.name, err)
		return
	}
	units, _ := manager{h.Machine}.States(w.ctx, install.LabHost.Units()...)
	for _, u := range units {
		s := h.unitNamed(u.Name)
		timer := strings.HasSuffix(u.Name, ".timer")
		if s == nil || s.timed() != timer {
			continue
		}
		if !u.Active || u.Stuck || !u.Enabled || !timer && !disk.SameFile(u.Program, current) {
			w.book.breaks("the installed build runs", "", "%s of %s: runs %t, at boot %t", u.Name, h.name, u.Active, u.Enabled)
		}
	}
}
