// Package mirror copies the authority's public files and the releases from the receiver that has
// them to all other receivers on a database.
//
// Files are cut into chunks, each a document that is named by its digest; an index names the
// chunks of each file. So a roster that grows costs its last chunk. A copy is replaced as a whole,
// once all its chunks are there and have their digests: a crash leaves the old file or the new
// one. Nothing here is secret: keys stay where they are. Who may write documents can change what
// the other receivers believe, as who may write rows can.
//
//storage:files copies files of the authority and of releases, which programs read from folders
package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/records"
)

const (
	prefix   = receiver.MirrorDocs
	indexDoc = prefix + "index.json"
	chunk    = 1 << 20 // bytes
	most     = 1 << 30 // of one file
	maxIndex = 16 << 20
	every    = time.Second
)

// The folders, as the first part of names.
const (
	authority = "authority/"
	releases  = "releases/"
	trustFile = "trust.pem"
	keysFile  = "release-keys"
)

// Options describe a mirror.
type Options struct {
	Docs  receiver.Docs
	Lease func() (io.Closer, error) // of the one that has the originals
	FS    disk.FS
	// Authority and Releases are the folders. If the authority is elsewhere, this receiver has
	// copies in both.
	Authority, Releases string
	// Elsewhere reports whether another receiver has the originals now.
	Elsewhere func() (bool, error)
	// Shared is set where the authority itself keeps its folder, by what the database has.
	Shared bool
	// Recorded is what the authority recorded in the database, if it does: then the copies of its
	// files are made of that, because only the authority can write there.
	Recorded receiver.RecordReader
	Log      *slog.Logger
}

// Mirror publishes the files of this receiver, or keeps copies of another one's.
type Mirror struct {
	o       Options
	lease   io.Closer
	seen    map[string]cut  // what files had when they were read last
	stored  map[string]bool // chunks among the documents; nil: not known
	index   []byte          // that was published last
	version string          // of the index that was copied last
	copies  *records.Copies // of what the authority recorded
	rollout string          // version of the document that was copied last
}

// file is a file in the index.
type file struct {
	Name   string         `json:"name"`
	Chunks []ident.Digest `json:"chunks"`
}

// cut is a file that was cut into chunks.
type cut struct {
	info   fs.FileInfo
	chunks []ident.Digest
}

// New returns a mirror. Run makes it work.
func New(o Options) *Mirror {
	m := &Mirror{o: o, seen: map[string]cut{}}
	if o.Recorded != nil && !o.Shared {
		m.copies = records.New(records.Options{Rows: o.Recorded, FS: o.FS, Dir: o.Authority, Replace: true, Files: map[string]fs.FileMode{
			local.RosterFile: 0o644, trustFile: 0o644, keysFile: 0o644,
		}})
	}
	return m
}

// Run publishes or copies what changed until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		err := m.Once()
		if said := fmt.Sprint(err); err != nil && said != last {
			m.o.Log.Warn("cannot exchange the authority's files and releases with other receivers", "err", err, "fix", fault.FixOf(err))
		}
		last = fmt.Sprint(err)
		select {
		case <-ctx.Done():
			if m.lease != nil {
				return m.lease.Close()
			}
			return nil
		case <-tick.C:
		}
	}
}

// Once publishes or copies what changed.
func (m *Mirror) Once() error {
	elsewhere, err := m.o.Elsewhere()
	if err != nil {
		return err
	}
	if elsewhere {
		return errors.Join(m.retire(), m.fetch(), m.copyRollout())
	}
	err = m.publish()
	if errors.Is(err, receiver.ErrLeased) { // another one took it while this one was away
		err = errors.Join(err, m.retire())
	}
	return errors.Join(err, m.copyRollout())
}

// retire ends the lease, if this receiver has it.
func (m *Mirror) retire() (err error) {
	if m.lease != nil {
		err = m.lease.Close()
		m.lease, m.stored, m.index, m.seen = nil, nil, nil, map[string]cut{}
	}
	return err
}

// path returns where a file of the index is. Other names are refused.
func (m *Mirror) path(name string) (string, error) {
	for folder, dir := range map[string]string{authority: m.o.Authority, releases: m.o.Releases} {
		if rest, ok := strings.CutPrefix(name, folder); ok && filepath.IsLocal(rest) {
			return filepath.Join(dir, filepath.FromSlash(rest)), nil
		}
	}
	return "", fmt.Errorf("the index of mirrored files has the name %.80q", name)
}

// cut returns the chunks of a file, and calls each for those that were not read before. A file
// that does not exist has none.
func (m *Mirror) cut(path string, each func(ident.Digest, []byte) error) ([]ident.Digest, error) {
	fi, err := m.o.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old := m.seen[path]
	if old.info != nil && disk.SameFile(old.info, fi) && old.info.Size() == fi.Size() && old.info.ModTime().Equal(fi.ModTime()) {
		return old.chunks, nil
	}
	content, err := disk.ReadFile(m.o.FS, path, most)
	if err != nil {
		return nil, err
	}
	chunks := []ident.Digest{}
	for len(content) > 0 {
		part := content[:min(chunk, len(content))]
		content = content[len(part):]
		d := digestOf(part)
		if err := each(d, part); err != nil {
			return nil, err
		}
		chunks = append(chunks, d)
	}
	m.seen[path] = cut{fi, chunks}
	return chunks, nil
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}
