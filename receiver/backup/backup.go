// Package backup saves what a receiver cannot rebuild, and brings it back on
// this or another machine: the authority with its CA key, the config, the
// published releases, the ledgers, and which episodes are archived. Episodes and
// their index are not in it: they are the hosts' to send again.
//
// A backup is one tar.gz that holds secrets. It may be made while the daemons
// run: ledgers only grow, and a torn last line is cut when they are opened. What
// serve's user put in the place of a file (a link, a pipe, a file without end) is
// left out, and named in Head.LeftOut.
// Restore reads the whole backup before it changes anything, replaces each file
// by rename, and may be repeated after a crash. It removes the store's id last,
// so that serve makes a new one, upon which every host compares what it shipped
// and sends what is missing. It refuses while serve or bootstrap runs.
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

// Schema names the format; it is in the first entry of each backup.
const Schema = "cis490.backup/1"

// head is the name of the first entry.
const head = "backup.json"

// configEntry is the name of the receiver's config.
const configEntry = "config/receiver.toml"

// maxHead bounds the first entry, in bytes.
const maxHead = 64 << 10

// maxFile bounds a file that is saved, in bytes. A larger one is not a ledger of
// ours: a hole of terabytes takes no room where it lies, and days to save.
const maxFile = 4 << 30

// Places are where a receiver's files are.
type Places struct {
	Config    string // receiver.toml
	Operator  string // the operator's token
	Data      string // folder
	Authority string // folder
}

// Head describes a backup.
type Head struct {
	Schema  string    `json:"schema"`
	Version string    `json:"version"` // of the program that made it
	At      time.Time `json:"at"`
	Files   int       `json:"files,omitempty"` // counted when it is read
	// LeftOut are the paths in folders of serve's user that were not saved, and why.
	LeftOut []string `json:"left_out,omitempty"`
}

// entries maps names in a backup to where they are on a machine. A name that
// ends in a slash stands for a folder with all that is in it.
func (p Places) entries() map[string]string {
	return map[string]string{
		configEntry:       p.Config,
		"config/operator": p.Operator,
		"authority/":      p.Authority,
		"data/":           p.Data,
		"releases/":       local.ReleasesDir(p.Data),
		"archived/":       filepath.Join(p.Data, store.ArchivedDir), // or hosts would send those again
	}
}

// place returns where an entry belongs; false for a name that no backup has.
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

// saved tells whether a file directly in the data folder is saved: the ledgers
// but the index, what is known of the hosts, and where the tarballs are.
func saved(name string) bool {
	return name == receiver.ContactsDoc || name == local.PlaceFile || !strings.Contains(name, "/") && strings.HasSuffix(name, ".jsonl") && name != local.IndexFile
}

// caKey is the authority's, and what a backup is for.
const caKey = "ca.key"

// Note is when the last backup was made, and where it was put.
type Note struct {
	At   time.Time `json:"at"`
	File string    `json:"file"`
}

// Remember notes a backup that is durable, for those who judge its age.
func Remember(docs receiver.Docs, n Note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("note the backup: %w", err)
	}
	return docs.Save(receiver.BackupDoc, append(b, '\n'))
}

// Last returns the note of the last backup; the zero Note if there was none.
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
		// Of what is not named, "" would become the folder that this runs in.
		if *at == "" {
			continue
		}
		switch real, err := (disk.OS{}).Real(*at); {
		case err == nil:
			*at = real
		case !errors.Is(err, fs.ErrNotExist): // add judges what is not there
			return h, fmt.Errorf("save: %w", err)
		}
	}
	if _, err := (disk.OS{}).Lstat(filepath.Join(p.Authority, caKey)); err != nil {
		return h, fault.Fix(fmt.Errorf("save the CA key: %w", err), "sudo systemctl start cis490-bootstrap   # it makes a CA where there is none, and hosts must then join again")
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

// add adds a file, or all files of a folder. What is not there is left out, but
// for the config and the authority, without which a backup is none. Anything but a
// regular file is never followed or waited for. In the folders of serve's user it is
// left out; elsewhere it is an error, because the backup would lack what matters.
func (h *Head) add(t *tar.Writer, name, at string) error {
	mine := strings.HasPrefix(name, "config/") || name == "authority/"
	var failed error // not serve's doing
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
	case err != nil && failed == nil && !mine: // such as a folder that is too deep
		h.LeftOut = append(h.LeftOut, err.Error())
		return nil
	}
	return err
}

// errTooLarge reports a file over maxFile.
var errTooLarge = fmt.Errorf("larger than %d bytes", maxFile)

// errShrank reports a file that was cut while it was saved.
var errShrank = errors.New("could not be read to its end")

// padded reads a file, and zeros once it ends before its time: a backup that has begun
// an entry has to fill it.
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

// notSaved reports whether an error is about one file that cannot be in a backup.
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
	h, err := tar.FileInfoHeader(fi, "") // with the owner's name, which another machine has too
	if err != nil {
		return err
	}
	h.Name = name
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	// A ledger may grow meanwhile; what was there is enough.
	p := &padded{f: f}
	if _, err := io.CopyN(t, p, h.Size); err != nil {
		return fmt.Errorf("save %s: %w", file, err)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %w", file, errShrank, p.err)
	}
	return nil
}
