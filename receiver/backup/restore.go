package backup

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver/store"
)

// maxConfig bounds the config in a backup, in bytes.
const maxConfig = 1 << 20

// StopCommand stops what must not run during a restore; StartCommand starts it again. A run
// of autoupdate would start the stopped daemons.
const (
	StopCommand  = "sudo systemctl stop cis490-autoupdate.timer cis490-autoupdate cis490-fleet-health.timer cis490-receiver cis490-bootstrap"
	StartCommand = "sudo systemctl start cis490-bootstrap cis490-receiver cis490-fleet-health.timer cis490-autoupdate.timer"
)

// Restore restores a backup. The daemons must be stopped.
func Restore(file string, p Places) (h Head, err error) {
	// First read everything, so that a truncated backup changes nothing.
	if h, err = walk(file, p, look(file, p)); err != nil {
		return h, fmt.Errorf("read backup: %w", err)
	}
	for _, dir := range []string{p.Data, p.Authority} {
		if err := disk.MkdirAll(disk.OS{}, dir, 0o750); err != nil {
			return h, fmt.Errorf("restore: %w", err)
		}
		lock, locked := disk.OS{}.Lock(dir) // the first is serve's, the second bootstrap's
		if locked != nil {
			return h, fault.Fix(
				fmt.Errorf("restore: %w", locked), StopCommand+"   # then repeat the command",
			)
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	if _, err := walk(file, p, put); err != nil {
		return h, fmt.Errorf("restore: %w", err)
	}
	if err := store.ExpectAnother(disk.OS{}, store.KnownDir(p.Config)); err != nil { // otherwise serve would report the store as vanished
		return h, fmt.Errorf("restore: %w", err)
	}
	if err := (disk.OS{}).Remove(filepath.Join(p.Data, store.IDFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("restore: %w", err)
	}
	if err := (disk.OS{}).SyncDir(p.Data); err != nil {
		return h, fmt.Errorf("restore: %w", err)
	}
	return h, nil
}

// keyEntry is the name of the CA key.
const keyEntry = "authority/ca.key"

// RestoreKey restores nothing but the CA key, for a machine that stands by: what the authority
// recorded is in the database. bootstrap must be stopped.
func RestoreKey(file string, p Places) (h Head, err error) {
	found := false
	if h, err = walk(file, p, func(e *tar.Header, _ string, _ io.Reader) error {
		found = found || e.Name == keyEntry
		return nil
	}); err != nil {
		return h, fmt.Errorf("read backup: %w", err)
	}
	if !found {
		return h, fmt.Errorf("%s has no CA key", file)
	}
	lock, err := disk.OS{}.Lock(p.Authority)
	if err != nil {
		return h, fault.Fix(fmt.Errorf("restore: %w", err),
			"sudo cis490 install receiver && sudo systemctl stop cis490-bootstrap   # then repeat the command")
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := walk(file, p, func(e *tar.Header, at string, content io.Reader) error {
		if e.Name != keyEntry {
			return nil
		}
		return put(e, at, content)
	}); err != nil {
		return h, fmt.Errorf("restore: %w", err)
	}
	return h, nil
}

// onTheWay refuses a symlink in place of a folder that an entry goes into: root would
// write to where the owner of the parent folder points it.
func onTheWay(name, at string) error {
	for range strings.Count(name, "/") {
		at = filepath.Dir(at)
		if fi, err := (disk.OS{}).Lstat(at); err == nil && fi.Mode()&fs.ModeSymlink != 0 && !strings.HasPrefix(name, "config/") {
			return fault.Fix(fmt.Errorf("%s is a symlink", at), "replace the link by its folder, or put the real path into the config")
		}
	}
	return nil
}

// look returns a function that reads the backup's config. It refuses a config with other
// paths: files are restored to the paths in this machine's config, but the daemons read from
// those in the restored config. With other paths, bootstrap would not find its CA, and make
// another one.
func look(file string, p Places) func(h *tar.Header, at string, content io.Reader) error {
	return func(h *tar.Header, at string, content io.Reader) error {
		if h.Name != configEntry {
			return onTheWay(h.Name, at)
		}
		b, err := io.ReadAll(io.LimitReader(content, maxConfig+1))
		if err == nil && len(b) > maxConfig {
			err = fmt.Errorf("its config is larger than %d bytes", maxConfig)
		}
		if err != nil {
			return fmt.Errorf("%s is truncated or damaged: %w", file, err)
		}
		c, _, err := config.ParseReceiver(h.Name, b)
		if err != nil {
			return nil // it is restored as it is; the daemons report what is wrong with it
		}
		for key, at := range map[string][2]string{
			"data_dir": {c.DataDir, p.Data}, "authority.dir": {c.Authority.Dir, p.Authority}, "operator_file": {c.Operator, p.Operator},
		} {
			if at[0] != at[1] {
				return fault.Exit(fault.Fix(fmt.Errorf("%s was made with %s = %q, but the config here has %q", file, key, at[0], at[1]),
					"sudo tar -xzOf "+file+" "+configEntry+" | sudo tee "+p.Config+" >/dev/null; sudo cis490 install receiver; "+
						StopCommand+"   # then repeat the command"), fault.Config)
			}
		}
		return nil
	}
}

// walk reads a backup to its end and calls do with each entry and its path.
func walk(file string, p Places, do func(h *tar.Header, at string, content io.Reader) error) (h Head, err error) {
	f, err := disk.OS{}.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return h, fmt.Errorf("%s is not a backup: %w", file, err)
	}
	t := tar.NewReader(z)
	for {
		e, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return h, fmt.Errorf("%s is truncated or damaged: %w", file, err)
		}
		if h.Schema == "" {
			if err := json.NewDecoder(io.LimitReader(t, maxHead)).Decode(&h); err != nil || e.Name != head || h.Schema != Schema {
				return Head{}, fmt.Errorf("%s is not a backup of schema %s", file, Schema)
			}
			continue
		}
		at, known := p.place(e.Name)
		if !known || e.Typeflag != tar.TypeReg {
			return h, fmt.Errorf("%s has an unknown entry: %q", file, e.Name)
		}
		h.Files++
		if err := do(e, at, t); err != nil {
			return h, err
		}
	}
	if _, err := io.Copy(io.Discard, z); err != nil { // checks the checksum at the end
		return h, fmt.Errorf("%s is truncated or damaged: %w", file, err)
	}
	if h.Files == 0 {
		return h, fmt.Errorf("%s is empty", file)
	}
	return h, nil
}

// put writes a file to its path, with its mode and, as root, its owner.
func put(h *tar.Header, at string, content io.Reader) error {
	if err := makeFolder(filepath.Dir(at), h); err != nil {
		return err
	}
	return disk.Replace(disk.OS{}, at, fs.FileMode(h.Mode).Perm(), func(w io.Writer) error {
		if _, err := io.Copy(w, content); err != nil {
			return err
		}
		f, ok := w.(*os.File)
		if uid, gid, known := owner(h); ok && known {
			return f.Chown(uid, gid)
		}
		return nil
	})
}

// makeFolder makes missing folders, for example of releases, with the owner of the file.
func makeFolder(dir string, h *tar.Header) error {
	if disk.Exists(disk.OS{}, dir) {
		return nil
	}
	if err := makeFolder(filepath.Dir(dir), h); err != nil {
		return err
	}
	if err := disk.MkdirAll(disk.OS{}, dir, 0o750); err != nil {
		return err
	}
	if uid, gid, known := owner(h); known {
		return disk.Chown(disk.OS{}, dir, uid, gid)
	}
	return nil
}

// owner returns the ids of an entry's owner on this machine.
func owner(h *tar.Header) (uid, gid int, known bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err1 := user.Lookup(h.Uname)
	g, err2 := user.LookupGroup(h.Gname)
	if err1 != nil || err2 != nil {
		return 0, 0, false
	}
	uid, err1 = strconv.Atoi(u.Uid)
	gid, err2 = strconv.Atoi(g.Gid)
	return uid, gid, err1 == nil && err2 == nil
}
