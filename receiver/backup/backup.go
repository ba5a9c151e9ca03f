// Package backup saves what a receiver cannot rebuild, and restores it on this or another
// machine: the authority with its CA key, the config, access tokens, the published releases,
// the ledgers, and the lists of archived episodes. It does not save episodes and their index,
// because hosts send those again.
//
// A backup is a tar.gz and contains secrets. It can be made while the daemons run:
// ledgers only grow, and a torn last line is cut when they are opened. Names in folders
// of serve's user that are not regular files (links, pipes, endless files) are left out
// and listed in Head.LeftOut. Restore reads the whole backup before it changes anything,
// replaces each file by rename, and can be repeated after a crash. It removes the store's
// id last, so that serve makes a new one, and every host compares what it shipped and
// sends what is missing. It refuses while serve or bootstrap runs.
//
//storage:files saves and restores those of the local backend, the config and the authority
package backup

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// Schema is the name of the format, in the first entry of each backup.
const Schema = "cis490.backup/1"

// head is the name of the first entry.
const head = "backup.json"

// configEntry is the name of the receiver's config.
const configEntry = "config/receiver.toml"

// maxHead bounds the first entry, in bytes.
const maxHead = 64 << 10

// maxFile bounds a saved file, in bytes. A larger one is not a ledger: a sparse file of
// terabytes would take days to save.
const maxFile = 4 << 30

// Places are the locations of a receiver's files.
type Places struct {
	Config    string // receiver.toml
	Operator  string // the operator token
	Data      string // folder
	Ledger    string // folder with copies of the ledgers, if they are not in Data
	Authority string // folder
}

// Head describes a backup.
type Head struct {
	Schema  string    `json:"schema"`
	Version string    `json:"version"` // of the program that made the backup
	At      time.Time `json:"at"`
	Files   int       `json:"files,omitempty"` // counted by Restore
	// LeftOut are paths in folders of serve's user that were not saved, with the reason.
	LeftOut []string `json:"left_out,omitempty"`
}

// entries maps names in a backup to paths. A name that ends in a slash stands for a
// folder with its content.
func (p Places) entries() map[string]string {
	all := map[string]string{
		configEntry:       p.Config,
		"config/operator": p.Operator,
		"authority/":      p.Authority,
		"data/":           cmp.Or(p.Ledger, p.Data),
		"releases/":       local.ReleasesDir(p.Data),
		"archived/":       filepath.Join(p.Data, store.ArchivedDir), // without it, hosts would send those again
	}
	if p.Operator != "" {
		all["config/"+local.TokensFile] = filepath.Join(filepath.Dir(p.Operator), local.TokensFile)
	}
	return all
}

// place returns the path of an entry; false for a name that backups do not have.
func (p Places) place(name string) (string, bool) {
	if !filepath.IsLocal(name) || path.Clean(name) != name {
		return "", false
	}
	for prefix, at := range p.entries() {
		rest, folder := strings.CutPrefix(name, prefix)
		switch {
		case name == prefix:
			return at, true
		case !strings.HasSuffix(prefix, "/") || !folder:
		case prefix == "data/" && !saved(rest):
			return "", false
		default:
			return filepath.Join(at, rest), true
		}
	}
	return "", false
}

// saved reports whether a file directly in the data folder is saved: ledgers other than
// the index, the records about hosts, and the place of the tarballs.
func saved(name string) bool {
	ledger := !strings.Contains(name, "/") && strings.HasSuffix(name, ".jsonl") && name != local.IndexFile
	return ledger || name == receiver.ContactsDoc || name == receiver.NotesDoc || name == local.PlaceFile
}

// caKey is the authority's key, the most important entry.
const caKey = "ca.key"

// Note describes the last backup: when it was made, and where.
type Note struct {
	At   time.Time `json:"at"`
	File string    `json:"file"`
}

// Remember records a durable backup, for checks of its age.
func Remember(docs receiver.Docs, n Note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("record the backup: %w", err)
	}
	return docs.Save(receiver.BackupDoc, append(b, '\n'))
}

// Last returns the record of the last backup; the zero Note if there is none.
func Last(docs receiver.Docs) (Note, error) {
	var n Note
	b, err := docs.Load(receiver.BackupDoc, maxHead)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		return Note{}, fmt.Errorf("read %s: %w", receiver.BackupDoc, err)
	}
	return n, nil
}

// Save writes a backup.
func Save(w io.Writer, p Places, version string, now time.Time) (Head, error) {
	h := Head{Schema: Schema, Version: version, At: now.UTC()}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	b, err := json.Marshal(h)
	if err != nil {
		return h, fmt.Errorf("save: %w", err)
	}
	if err := t.WriteHeader(&tar.Header{Name: head, Mode: 0o600, Size: int64(len(b)), ModTime: now}); err != nil {
		return h, fmt.Errorf("save: %w", err)
	}
	if _, err := t.Write(b); err != nil {
		return h, fmt.Errorf("save: %w", err)
	}
	for _, at := range []*string{&p.Config, &p.Operator, &p.Data, &p.Authority} {
		// An empty path must not become the current folder.
		if *at == "" {
			continue
		}
		switch real, err := (disk.OS{}).Real(*at); {
		case err == nil:
			*at = real
		case !errors.Is(err, fs.ErrNotExist): // add handles missing files
			return h, fmt.Errorf("save: %w", err)
		}
	}
	if _, err := (disk.OS{}).Lstat(filepath.Join(p.Authority, caKey)); err != nil {
		return h, fault.Fix(
			fmt.Errorf("save the CA key: %w", err), "sudo systemctl start cis490-bootstrap   # it makes a new CA, and all hosts must join again",
		)
	}
	entries := p.entries()
	names := make([]string, 0, len(entries))
	for name, at := range entries {
		if at != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := h.add(t, name, entries[name]); err != nil {
			return h, fmt.Errorf("save: %w", err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return h, fmt.Errorf("save: %w", err)
	}
	return h, nil
}

// add adds a file, or all files of a folder. It skips what does not exist, except for the
// config and the authority, which every backup needs. It never follows or waits for
// anything but a regular file: in folders of serve's user it leaves that out, elsewhere
// it returns an error.
func (h *Head) add(t *tar.Writer, name, at string) error {
	mine := strings.HasPrefix(name, "config/") || name == "authority/"
	var failed error // not caused by serve's user
	err := disk.Walk(disk.OS{}, at, func(file string, fi fs.FileInfo) error {
		rel, err := filepath.Rel(at, file)
		switch {
		case err != nil:
			return err
		case fi.IsDir() && name == "data/" && rel != ".":
			return fs.SkipDir
		case fi.IsDir(), strings.HasSuffix(file, disk.Partial), rel == disk.LockName, name == "data/" && !saved(rel):
			return nil
		}
		entry := name
		if rel != "." {
			entry += filepath.ToSlash(rel)
		}
		err = addFile(t, entry, file)
		switch {
		case err == nil:
			h.Files++
		case !notSaved(err):
			failed = err
			return err
		case mine:
			return fault.Fix(err, "put a regular file in its place, or name the real folder in the config")
		default:
			h.LeftOut = append(h.LeftOut, err.Error())
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist) && name != configEntry && name != "authority/":
		return nil
	case err != nil && failed == nil && !mine: // for example a folder that is too deep
		h.LeftOut = append(h.LeftOut, err.Error())
		return nil
	}
	return err
}

// errTooLarge reports a file over maxFile.
var errTooLarge = fmt.Errorf("larger than %d bytes", int64(maxFile))

// errShrank reports a file that was truncated while it was saved.
var errShrank = errors.New("could not be read to its end")

// padded reads a file, and zeros if it ends too early, because a begun tar entry must
// have its announced size.
type padded struct {
	f   io.Reader
	err error
}

func (p *padded) Read(b []byte) (n int, err error) {
	if p.err == nil {
		n, p.err = p.f.Read(b)
	}
	if n == 0 && p.err != nil {
		clear(b)
		n = len(b)
	}
	return n, nil
}

// notSaved reports whether an error concerns one file that cannot be saved.
func notSaved(err error) bool {
	return errors.Is(err, disk.ErrNotRegular) || errors.Is(err, disk.ErrLink) || errors.Is(err, errTooLarge) || errors.Is(err, errShrank)
}

func addFile(t *tar.Writer, name, file string) (err error) {
	f, err := disk.OS{}.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) {
		err = &fs.PathError{Op: "open", Path: file, Err: disk.ErrLink}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > maxFile {
		return fmt.Errorf("%s: %w", file, errTooLarge)
	}
	h, err := tar.FileInfoHeader(fi, "") // includes the owner's name, which is the same on other machines
	if err != nil {
		return err
	}
	h.Name = name
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	// A ledger may grow meanwhile; its content up to now is enough.
	p := &padded{f: f}
	if _, err := io.CopyN(t, p, h.Size); err != nil {
		return fmt.Errorf("save %s: %w", file, err)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %w", file, errShrank, p.err)
	}
	return nil
}
