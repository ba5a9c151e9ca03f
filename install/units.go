package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// unitMark is the first line of every unit file of this program; only such files are
// removed.
var unitMark = []byte("# Written by 'cis490 install'")

// has reports whether a role is installed on this machine.
func (p *Plan) has(r Role) bool { return slices.Contains(roles(p.FS, p.Root), r) }

// Roles returns the installed roles of the machine below root ("" is this one). A config
// without a role marker does not count, because uninstall keeps it.
func Roles(root string) []Role { return roles(disk.OS{}, root) }

func roles(fsys disk.FS, root string) []Role {
	var all []Role
	for _, r := range []Role{LabHost, Receiver} {
		if _, err := fsys.Lstat(filepath.Join(root, r.marker())); err == nil {
			all = append(all, r)
		}
	}
	return all
}

// marker returns the path of the file that marks a role as installed; everybody can read
// it.
func (r Role) marker() string { return filepath.Join(optDir, "role-"+string(r)) }

// mark writes the marker, before the units, so that every file of an interrupted install
// belongs to a role.
func (p *Plan) mark() step {
	return p.ensure("role", file{path: p.Role.marker(), owner: root, mode: 0o644})
}

// units writes the role's unit files and removes those of this program that no role has any
// more.
func (p *Plan) units(data UnitData) (step, error) {
	contents := map[string][]byte{}
	for _, unit := range p.unitNames() {
		content, err := Render(unit, data)
		if err != nil {
			return step{}, err
		}
		contents[unit] = content
	}
	return step{"units", func(context.Context) ([]Change, error) {
		var changes []Change
		for _, unit := range p.unitNames() {
			path := filepath.Join(unitDir, unit)
			if p.masked(path) {
				changes = append(changes, note(unit+" is masked: left alone"))
				continue
			}
			c, err := file{path: path, content: contents[unit], owner: root, mode: 0o644}.check(p)
			if err != nil {
				return changes, err
			}
			if c != nil {
				p.touched[unit] = true
				changes = append(changes, *c)
			}
		}
		old, err := p.leftOver()
		for _, unit := range old {
			p.touched[unit] = true
			changes = append(changes, p.removal(unit))
		}
		return changes, err
	}}, nil
}

// masked reports whether a unit's name is a symlink to /dev/null, as made by systemctl
// mask.
func (p *Plan) masked(path string) bool {
	target, err := disk.Readlink(p.FS, p.at(path))
	return err == nil && target == "/dev/null"
}

// leftOver returns this program's unit files that no role on this machine has.
func (p *Plan) leftOver() ([]string, error) {
	wanted := p.unitNames()
	if p.has(p.Role.other()) {
		wanted = append(wanted, p.Role.other().Units()...)
	}
	entries, err := p.FS.ReadDir(p.at(unitDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var old []string
	for _, e := range entries {
		name := e.Name()
		ending := filepath.Ext(name)
		wrongEnding := ending != ".service" && ending != ".timer"
		if !e.Type().IsRegular() || !strings.HasPrefix(name, "cis490-") || wrongEnding || slices.Contains(wanted, name) {
			continue
		}
		mine, err := startsWith(p.FS, filepath.Join(p.at(unitDir), name), unitMark)
		if err != nil {
			return old, err
		}
		if mine {
			old = append(old, name)
		}
	}
	return old, nil
}

func (p *Plan) removal(unit string) Change {
	path := p.at(filepath.Join(unitDir, unit))
	c := Change{What: unit + " is from an earlier version: remove it", Done: "removed", Object: unit, Was: "was from an earlier version"}
	if p.Manager != nil {
		c.Commands = []string{"systemctl disable --now " + unit}
	}
	c.apply = func(ctx context.Context) error {
		if p.Manager != nil {
			if err := p.Manager.Systemctl(ctx, "disable", "--now", unit); err != nil {
				return err
			}
		}
		return errors.Join(p.FS.Remove(path), p.FS.SyncDir(filepath.Dir(path)))
	}
	return c
}

// labHostData returns the template input of a lab host's units.
func (p *Plan) labHostData() UnitData {
	return UnitData{
		Exec: command, Good: optDir + "/good/" + nameOfUs,
		DataDir: p.lab.DataDir, CertsDir: p.lab.CertsDir,
		KVM:         !p.image() && groupExists("kvm"),
		DoctorCheck: true,
	}
}

// receiverData returns the template input of a receiver's units.
func (p *Plan) receiverData() UnitData {
	d := UnitData{
		Exec: command, Good: optDir + "/good/" + nameOfUs,
		Store: p.rx.DataDir, AuthorityDir: p.rx.Authority.Dir,
		ReceiverLowPort: lowPort(p.rx.Listen), AuthorityLowPort: lowPort(p.rx.Authority.Listen),
		DoctorCheck: p.has(LabHost),
	}
	d.ReceiverRuntime, d.ReceiverWrites = socketFolder(p.rx.TLS.Socket)
	if p.rx.TLS.Mode != "proxy" {
		d.ReceiverWrites = nil
	}
	d.AuthorityRuntime, d.AuthorityWrites = socketFolder(p.rx.Authority.Socket)
	return d
}

// socketFolder returns what a unit needs to create its socket: a runtime folder, relative
// to /run, or another folder that must be writable.
func socketFolder(socket string) (runtime string, writes []string) {
	dir := filepath.Dir(socket)
	if rel, ok := strings.CutPrefix(dir, "/run/"); ok {
		return rel, nil
	}
	return "", []string{dir}
}

// lowPort reports whether an address has a port that needs a capability to open.
func lowPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := net.LookupPort("tcp", port)
	return err == nil && n > 0 && n < 1024
}

// visible rejects a folder that the sandbox of the units hides.
func visible(file, key, path string) error {
	for _, hidden := range []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys"} {
		if path == hidden || strings.HasPrefix(path, hidden+"/") {
			const why = "%q cannot be used: services cannot see %s; use another folder, such as below /var/lib or /srv"
			return &config.Error{File: file, Key: key, Why: fmt.Sprintf(why, path, hidden)}
		}
	}
	return nil
}
