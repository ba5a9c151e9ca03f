package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// fleetRuntime is what fleet-check's unit keeps between its runs.
const fleetRuntime = "/run/cis490-fleet-health"

// leftovers are what a role has beside its units and the binary.
type leftovers struct {
	data  []string // removed if it belongs to a service user
	files []string // and folders
	users []string
}

// leftovers returns what --purge removes. It reads the role's config, and uses the defaults
// of one that cannot be read.
func (u *uninstall) leftovers() leftovers {
	if u.Role == LabHost {
		c, _, err := config.LoadLabHost(u.at(config.LabHostPath))
		if err != nil {
			c = config.DefaultLabHost()
		}
		return leftovers{[]string{c.DataDir}, []string{config.LabHostPath, c.CertsDir}, []string{recorder, nameOfUs}}
	}
	c, _, err := config.LoadReceiver(u.at(config.ReceiverPath))
	if err != nil {
		c = config.DefaultReceiver()
	}
	files := []string{config.ReceiverPath, c.Operator, filepath.Join(configDir, "store"), filepath.Join(configDir, "ca"), fleetRuntime}
	if c.Authority.Elsewhere { // what an invitation brought
		for _, name := range invitedFiles() {
			files = append(files, filepath.Join(configDir, name))
		}
	}
	return leftovers{[]string{c.DataDir, c.Authority.Dir}, files, []string{authority, nameOfUs}}
}

// refuseNested returns an error if the data of the machine's other role is below this role's.
func (u *uninstall) refuseNested() error {
	other := &uninstall{u.Plan}
	if other.Role = u.Role.other(); !u.has(other.Role) {
		return nil
	}
	for _, dir := range u.leftovers().data {
		for _, inner := range other.leftovers().data {
			if strings.HasPrefix(inner+"/", dir+"/") {
				return fault.Fix(fmt.Errorf("this machine is also a %s, whose data is in %s", other.Role, inner),
					"sudo cis490 uninstall "+string(other.Role)+" --purge   # first")
			}
		}
	}
	return nil
}

// purge removes data, config and credentials of the role and, if no role remains, users and
// everything else below configDir.
func (u *uninstall) purge(ctx context.Context, l leftovers) error {
	var all []error
	for _, dir := range l.data {
		all = append(all, u.purgeData(dir, l.users))
	}
	for _, path := range l.files {
		all = append(all, u.removeAll(path))
	}
	if u.has(u.Role.other()) {
		return errors.Join(all...)
	}
	if all = append(all, u.removeAll(configDir)); u.image() {
		return errors.Join(all...)
	}
	for _, name := range []string{recorder, authority, nameOfUs, operators} { // of both roles: the other may have left first
		if _, err := user.Lookup(name); err == nil {
			all = append(all, u.removeAccount(ctx, "user", "userdel", name))
		}
		if groupExists(name) { // not every userdel removes it
			all = append(all, u.removeAccount(ctx, "group", "groupdel", name))
		}
	}
	return errors.Join(all...)
}

// removeAccount removes a user or a group.
func (u *uninstall) removeAccount(ctx context.Context, what, command, name string) error {
	if err := execute(ctx, command, name); err != nil {
		return err
	}
	u.say("removed  %s %s\n", what, name)
	return nil
}

// purgeData removes a folder of the config if install made it, which its owner shows. A
// mount point stays, empty.
func (u *uninstall) purgeData(dir string, users []string) error {
	fi, err := u.FS.Lstat(u.at(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owned := false
	for _, name := range users {
		owned = owned || differs(fi, &u.Plan, owner{name, nameOfUs}, fi.Mode().Perm()|fi.Mode()&fs.ModeSetgid) == ""
	}
	if !fi.IsDir() || !owned {
		u.say("note     %s does not belong to %s: left alone\n", dir, strings.Join(users, " or "))
		return nil
	}
	err = u.removeAll(dir)
	if parent := filepath.Dir(dir); filepath.Base(parent) == nameOfUs {
		_ = u.FS.Remove(u.at(parent)) // the default's, if it is empty
	}
	return err
}

func (u *uninstall) removeAll(path string) error {
	if _, err := u.FS.Lstat(u.at(path)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := disk.RemoveAll(u.FS, u.at(path)); err != nil {
		return err
	}
	u.say("removed  %s\n", path)
	return nil
}
