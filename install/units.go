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

// unitMark begins every unit file of ours; only such are ever removed.
var unitMark = []byte("# Written by 'cis490 install'")

// has tells whether a role is installed on this machine.
func (p *Plan) has(r Role) bool { return slices.Contains(Roles(p.Root), r) }

// Roles returns the roles that are installed on the machine below root ("" is
// this one). A config alone is none: uninstall keeps it.
func Roles(root string) []Role {
	var roles []Role
	for _, r := range []Role{LabHost, Receiver} {
		if _, err := (disk.OS{}).Lstat(filepath.Join(root, r.marker())); err == nil {
			roles = append(roles, r)
		}
	}
	return roles
}

// marker names the file that says that a role is installed; everybody may know.
func (r Role) marker() string { return filepath.Join(optDir, "role-"+string(r)) }

// mark is the step that writes it, before the units: whatever an install that is
// cut off leaves behind then belongs to a role.
func (p *Plan) mark() step {
	return p.keep("role", file{path: p.Role.marker(), owner: root, mode: 0o644})
}

// units is the step that writes the role's unit files and removes ours that
// neither role has any more.
func (p *Plan) units(data UnitData) (step, error) {
	contents := map[string][]byte{}
	for _, unit := range p.Role.Units() {
		content, err := Render(unit, data)
		if err != nil {
			return step{}, err
		}
		contents[unit] = content
	}
	return step{"units", func(context.Context) ([]Change, error) {
		var changes []Change
		for _, unit := range p.Role.Units() {
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

// masked tells whether a unit's name is given to /dev/null, as systemctl mask
// does.
func (p *Plan) masked(path string) bool {
	target, err := disk.Readlink(p.FS, p.at(path))
	return err == nil && target == "/dev/null"
}

// leftOver returns the unit files of ours that no role on this machine has.
func (p *Plan) leftOver() ([]string, error) {
	wanted := p.Role.Units()
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
		if !e.Type().IsRegular() || !strings.HasPrefix(name, "cis490-") || (ending != ".service" && ending != ".timer") || slices.Contains(wanted, name) {
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
	c := Change{What: unit + " is of an earlier version: remove it"}
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

// labHostData is what the units of a lab host are rendered with.
func (p *Plan) labHostData() UnitData {
	return UnitData{
		Exec: command, Good: optDir + "/good/" + nameOfUs,
		DataDir: p.lab.DataDir, CertsDir: p.lab.CertsDir,
		KVM:         !p.image() && groupExists("kvm"),
		DoctorCheck: true,
	}
}

// receiverData is what the units of a receiver are rendered with.
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

// socketFolder tells what a unit needs so that its socket can be made: a runtime
// folder, relative to /run, or another folder to write.
func socketFolder(socket string) (runtime string, writes []string) {
	dir := filepath.Dir(socket)
	if rel, ok := strings.CutPrefix(dir, "/run/"); ok {
		return rel, nil
	}
	return "", []string{dir}
}

// lowPort tells whether an address has a port that takes a capability to open.
func lowPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := net.LookupPort("tcp", port)
	return err == nil && n > 0 && n < 1024
}

// visible refuses a folder that the sandbox of the units hides.
func visible(file, key, path string) error {
	for _, hidden := range []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys"} {
		if path == hidden || strings.HasPrefix(path, hidden+"/") {
			return &config.Error{File: file, Key: key, Why: fmt.Sprintf("%q cannot be used: services do not see %s; take a folder elsewhere, such as below /var/lib or /srv", path, hidden)}
		}
	}
	return nil
}
