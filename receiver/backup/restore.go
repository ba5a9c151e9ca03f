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

// Restore brings a backup back. The daemons must be stopped.
func Restore(file string, p Places) (h Head, err error) {
	// Before anything is changed, so that half a backup changes nothing.
	if h, err = walk(file, p, look(file, p)); err != nil {
		return h, fmt.Errorf("read backup: %w", err)
	}
	for _, dir := range []string{p.Data, p.Authority} {
		if err := disk.MkdirAll(disk.OS{}, dir, 0o750); err != nil {
			return h, fmt.Errorf("restore: %w", err)
		}
		lock, locked := disk.OS{}.Lock(dir) // serve has the one, bootstrap the other
		if locked != nil {
			return h, fault.Fix(fmt.Errorf("restore: %w", locked), "sudo systemctl stop cis490-receiver cis490-bootstrap   # then again")
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	if _, err := walk(file, p, put); err != nil {
		return h, fmt.Errorf("restore: %w", err)
	}
	if err := store.ExpectAnother(disk.OS{}, store.KnownDir(p.Config)); err != nil { // or serve would miss it
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

// onTheWay refuses a symlink in place of a folder that an entry goes into: root
// would write where the user of the folder above chose.
func onTheWay(name, at string) error {
	for range strings.Count(name, "/") {
		at = filepath.Dir(at)
		if fi, err := (disk.OS{}).Lstat(at); err == nil && fi.Mode()&fs.ModeSymlink != 0 && !strings.HasPrefix(name, "config/") {
			return fault.Fix(fmt.Errorf("%s is a symlink", at), "put what it leads to in its place, or name the real folder in the config")
		}
	}
	return nil
}

// look returns what looks for the backup's config, and refuses one that has the
// files elsewhere: they would be put where this machine's config says, and be
// looked for where the restored one does, so that bootstrap would make another CA.
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
			return fmt.Errorf("%s is cut or damaged: %w", file, err)
		}
		c, _, err := config.ParseReceiver(h.Name, b)
		if err != nil {
			return nil // it is brought back as it is, and the daemons tell what is wrong with it
		}
		for key, at := range map[string][2]string{
			"data_dir": {c.DataDir, p.Data}, "authority.dir": {c.Authority.Dir, p.Authority}, "operator_file": {c.Operator, p.Operator},
		} {
			if at[0] != at[1] {
				return fault.Exit(fault.Fix(fmt.Errorf("%s was made with %s = %q, here it is %q", file, key, at[0], at[1]),
					"sudo tar -xzOf "+file+" "+configEntry+" | sudo tee "+p.Config+" >/dev/null; sudo cis490 install receiver; "+
						"sudo systemctl stop cis490-receiver cis490-bootstrap   # then again"), fault.Config)
			}
		}
		return nil
	}
}

// walk reads a backup to its end and gives each entry with its place to do.
func walk(file string, p Places, do func(h *tar.Header, at string, content io.Reader) error) (h Head, err error) {
	f, err := disk.OS{}.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return h, fmt.Errorf("%s is no backup: %w", file, err)
	}
	t := tar.NewReader(z)
	for {
		e, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return h, fmt.Errorf("%s is cut or damaged: %w", file, err)
		}
		if h.Schema == "" {
			if err := json.NewDecoder(io.LimitReader(t, maxHead)).Decode(&h); err != nil || e.Name != head || h.Schema != Schema {
				return Head{}, fmt.Errorf("%s is no backup of schema %s", file, Schema)
			}
			continue
		}
		at, known := p.place(e.Name)
		if !known || e.Typeflag != tar.TypeReg {
			return h, fmt.Errorf("%s has an entry that no backup has: %q", file, e.Name)
		}
		h.Files++
		if err := do(e, at, t); err != nil {
			return h, err
		}
	}
	if _, err := io.Copy(io.Discard, z); err != nil { // to the checksum at the end
		return h, fmt.Errorf("%s is cut or damaged: %w", file, err)
	}
	if h.Files == 0 {
		return h, fmt.Errorf("%s is empty", file)
	}
	return h, nil
}

// put puts a file in its place, with its rights and, where root does it, its owner.
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

// makeFolder makes folders that installing has not made (releases have some),
// with the owner of what goes into them.
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

// owner returns the ids that an entry's owner has on this machine.
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
