package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// UninstallOptions configure an uninstall.
type UninstallOptions struct {
	Role        Role
	Root        string // as in Options
	AbandonData bool   // even if episodes are not shipped
	Purge       bool   // also remove data, config, credentials and users
	Out         io.Writer
	Manager     Manager // nil: do not change services
	FS          disk.FS // nil: the machine's
	// Stopped is called after the services have stopped; may be nil.
	Stopped func(context.Context)
}

// Uninstall removes a role from this machine: it stops its services and removes its units
// and the binary; data, config and users stay, unless Purge. It needs no valid config and no
// complete install: missing parts are not errors, and one failure does not stop the rest. It returns
// an error while a lab host has unshipped episodes, because nothing else would ship them.
func Uninstall(ctx context.Context, o UninstallOptions) error {
	if o.Root == "/" {
		o.Root = ""
	}
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	u := &uninstall{Plan{Options: Options{Role: o.Role, Root: o.Root, Out: o.Out, Manager: o.Manager, FS: o.FS}}}
	if !u.image() && os.Geteuid() != 0 {
		return fault.Exit(fault.Fix(errors.New("uninstall needs root"), "run it again with sudo"), fault.NoPerm)
	}
	if o.Role == LabHost && !o.AbandonData {
		if err := u.refuseUnshipped(); err != nil {
			return err
		}
	}
	forget := ""
	if o.Role == Receiver && u.further() {
		forget = cmp.Or(u.rx.Name, "NAME")
	}
	var left leftovers
	if o.Purge {
		// A lab host that was uninstalled with --abandon-data left its episodes.
		if o.Role == Receiver {
			if err := u.refuseUnshipped(); err != nil {
				return fault.Fix(err, "sudo cis490 uninstall lab-host --purge --abandon-data   # deletes them")
			}
		}
		if err := u.refuseNested(); err != nil {
			return err
		}
		left = u.leftovers() // while there is a config
	}
	if _, err := o.FS.Lstat(u.at(stateDir)); err == nil {
		unlock, err := Lock(ctx, o.FS, o.Root)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := u.services(ctx)
	if o.Stopped != nil {
		o.Stopped(ctx)
	}
	if err := errors.Join(err, u.units(ctx), u.program()); err != nil {
		return err
	}
	if o.Purge {
		if err := u.purge(ctx, left); err != nil {
			return err
		}
	} else {
		u.sayKept()
	}
	if forget != "" && !u.image() {
		u.say("note     the other receivers still expect it; on the one that has the authority: sudo cis490 ledger forget %s\n", forget)
	}
	return nil
}

// sayKept prints what an uninstall leaves, and how to remove it.
func (u *uninstall) sayKept() {
	if u.image() {
		return
	}
	data, what := config.DefaultLabHost().DataDir, "episodes, receipts and quarantine"
	if u.Role == Receiver {
		data, what = config.DefaultReceiver().DataDir, "every episode of the fleet, its index and alerts"
	}
	if u.rx.Authority.Elsewhere {
		what = "copies of the authority's files and of releases; episodes are in the object store"
	}
	u.say("kept     %s: %s (or the data_dir of the config)\n", data, what)
	if u.Role == Receiver && !u.rx.Authority.Elsewhere {
		u.say("kept     %s: the CA key, the roster and the tokens\n", config.DefaultReceiver().Authority.Dir)
	}
	u.say("kept     /etc/cis490: config and credentials; users cis490*\n")
	u.say("note     to delete these, too: %s\n", u.purgeCommand())
	if u.Role == Receiver {
		u.say("note     backups in /var/backups stay in any case\n")
		return
	}
	name := "NAME"
	if c, _, err := config.LoadLabHost(u.at(config.LabHostPath)); err == nil {
		name = string(c.Host)
	}
	u.say("note     to remove this host from the fleet for good, on the receiver: sudo cis490 host decommission %s\n", name)
}

// purgeCommand returns what deletes the data of a role after its uninstall, also without the
// program. Another data_dir than the default's may have files of others: --purge looks at its
// owner, rm does not, so it is not named.
func (u *uninstall) purgeCommand() string {
	if u.has(u.Role.other()) {
		return "sudo cis490 uninstall " + string(u.Role) + " --purge"
	}
	l := u.leftovers()
	own := slices.DeleteFunc(l.data, func(dir string) bool {
		return dir != config.DefaultLabHost().DataDir && dir != config.DefaultReceiver().DataDir && dir != config.DefaultReceiver().Authority.Dir
	})
	return fmt.Sprintf("sudo rm -r %s; for u in %s; do sudo userdel $u; done",
		strings.Join(append([]string{configDir}, own...), " "), strings.Join(l.users, " "))
}

type uninstall struct{ Plan }

// further reads the receiver's config, and reports whether its authority is on another one.
func (u *uninstall) further() bool {
	u.rx, _, _ = config.LoadReceiver(u.at(config.ReceiverPath)) // an invalid one has an authority
	return u.rx.Authority.Elsewhere
}

// services stops and disables the units, timers first, so that no timer starts a service
// meanwhile.
func (u *uninstall) services(ctx context.Context) error {
	if u.Manager == nil {
		return nil
	}
	units := u.going()
	slices.SortStableFunc(units, func(a, b string) int {
		return strings.Compare(filepath.Ext(b), filepath.Ext(a)) // .timer before .service
	})
	states, err := u.Manager.States(ctx, units...)
	if err != nil {
		return err
	}
	var all []error
	for _, s := range states {
		if !s.Known {
			continue
		}
		if err := u.Manager.Stop(ctx, s.Name); err != nil {
			all = append(all, err)
			continue
		}
		if s.Active {
			u.say("stopped  %s\n", s.Name)
		}
	}
	for _, s := range states {
		if !s.Enabled {
			continue
		}
		if err := u.Manager.Systemctl(ctx, "disable", "--quiet", s.Name); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// going returns the units that no remaining role has.
func (u *uninstall) going() []string {
	units := u.Role.Units()
	if u.has(u.Role.other()) {
		stay := u.Role.other().Units()
		units = slices.DeleteFunc(units, func(unit string) bool { return slices.Contains(stay, unit) })
	}
	return units
}

// units removes the unit files. Masks and drop-ins belong to the site.
func (u *uninstall) units(ctx context.Context) error {
	var all []error
	units := u.going()
	wants, err := u.wants()
	all = append(all, err)
	for _, unit := range units {
		path := filepath.Join(unitDir, unit)
		if u.masked(path) {
			u.say("note     %s is masked: left alone\n", unit)
			continue
		}
		all = append(all, u.remove(path))
		// If the file was missing, disabling did not remove these links.
		for _, dir := range wants {
			if err := u.FS.Remove(filepath.Join(u.at(unitDir), dir, unit)); !errors.Is(err, fs.ErrNotExist) {
				all = append(all, err)
			}
		}
	}
	if u.Manager == nil {
		return errors.Join(all...)
	}
	all = append(all, u.Manager.Systemctl(ctx, "daemon-reload"))
	for _, unit := range units {
		// It fails for a unit that systemd has unloaded.
		_ = u.Manager.Systemctl(ctx, "reset-failed", unit)
	}
	return errors.Join(all...)
}

// wants returns the *.wants folders, which hold the links that enable units.
func (u *uninstall) wants() (dirs []string, err error) {
	entries, err := readDir(u.FS, u.at(unitDir))
	for _, e := range entries {
		if e.IsDir() && filepath.Ext(e.Name()) == ".wants" {
			dirs = append(dirs, e.Name())
		}
	}
	return dirs, err
}

// program removes the binary, unless the other role uses it.
func (u *uninstall) program() error {
	if u.has(u.Role.other()) {
		if err := u.FS.Remove(u.at(u.Role.marker())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		u.say("note     this machine is also a %s: kept the binary; to update its units: sudo cis490 install %[1]s\n", u.Role.other())
		return nil
	}
	var all []error
	if target, err := disk.Readlink(u.FS, u.at(command)); err == nil && strings.HasPrefix(target, optDir+"/") {
		all = append(all, u.remove(command))
	}
	fi, err := u.FS.Lstat(u.at(optDir))
	if err != nil {
		return errors.Join(all...)
	}
	if fi.Mode()&fs.ModeSymlink != 0 { // only what is ours, wherever it leads
		entries, err := u.FS.ReadDir(u.at(optDir))
		all = append(all, err)
		for _, e := range entries {
			if isOurs(e.Name()) {
				all = append(all, disk.RemoveAll(u.FS, filepath.Join(u.at(optDir), e.Name())))
			}
		}
	}
	if all = append(all, disk.RemoveAll(u.FS, u.at(optDir))); errors.Join(all...) == nil {
		u.say("removed  %s\n", optDir)
	}
	return errors.Join(all...)
}

// isOurs reports whether a name in optDir is one of ours.
func isOurs(name string) bool {
	switch name {
	case "versions", "current", "good", "state", "autoupdate.json", "unsigned.json":
		return true
	}
	return name == "role-"+string(LabHost) || name == "role-"+string(Receiver)
}

func (u *uninstall) remove(path string) error {
	err := u.FS.Remove(u.at(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		u.say("removed  %s\n", path)
	}
	return err
}

// refuseUnshipped returns an error with the number of unshipped episodes, if any.
func (u *uninstall) refuseUnshipped() error {
	dir := config.DefaultLabHost().DataDir
	if c, _, err := config.LoadLabHost(u.at(config.LabHostPath)); err == nil {
		dir = c.DataDir
	} else if !errors.Is(err, fs.ErrNotExist) {
		u.say("note     %s cannot be read: looked for episodes in %s\n", config.LabHostPath, dir)
	}
	n, size, err := unshipped(u.FS, u.at(dir))
	if err != nil {
		return fault.Fix(fmt.Errorf("count unshipped episodes: %w", err), "--abandon-data uninstalls anyway; the data stays in "+dir)
	}
	if n == 0 {
		return nil
	}
	noun := "episodes"
	if n == 1 {
		noun = "episode"
	}
	return fault.Fix(fmt.Errorf("%d %s (%s) in %s not shipped yet", n, noun, humanize.IBytes(size), dir),
		"sudo systemctl stop cis490-orchestrator && sudo -u cis490 cis490 ship --once   # ship them first\n"+
			"sudo cis490 uninstall lab-host --abandon-data   # or leave them where they are")
}

// unshipped counts the complete, unshipped episodes: each once, even if both its folder and
// its tarball exist. It ignores other names.
func unshipped(fsys disk.FS, data string) (n int, size uint64, err error) {
	sizes := map[string]uint64{}
	dirs, err := readDir(fsys, filepath.Join(data, "episodes"))
	if err != nil {
		return 0, 0, err
	}
	for _, d := range dirs {
		if _, err := ident.ParseEpisodeID(d.Name()); err != nil {
			continue // the recorder's user can create any name
		}
		dir := filepath.Join(data, "episodes", d.Name())
		if _, err := fsys.Lstat(filepath.Join(dir, episode.DoneMarker)); err != nil || !d.IsDir() {
			continue
		}
		if sizes[d.Name()], err = sizeOf(fsys, dir); err != nil {
			return 0, 0, err
		}
	}
	tarballs, err := readDir(fsys, filepath.Join(data, "outbox"))
	if err != nil {
		return 0, 0, err
	}
	for _, t := range tarballs {
		id, ok := strings.CutSuffix(t.Name(), ".tar.zst")
		if !ok || !t.Type().IsRegular() {
			continue
		}
		fi, err := fsys.Lstat(filepath.Join(data, "outbox", t.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // shipped meanwhile
		}
		if err != nil {
			return 0, 0, err
		}
		sizes[id] = uint64(fi.Size())
	}
	for _, s := range sizes {
		size += s
	}
	return len(sizes), size, nil
}

func readDir(fsys disk.FS, dir string) ([]fs.DirEntry, error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func sizeOf(fsys disk.FS, dir string) (uint64, error) {
	entries, err := readDir(fsys, dir)
	if err != nil {
		return 0, err
	}
	var size uint64
	for _, e := range entries {
		if fi, err := fsys.Lstat(filepath.Join(dir, e.Name())); err == nil {
			size += uint64(fi.Size())
		}
	}
	return size, nil
}
