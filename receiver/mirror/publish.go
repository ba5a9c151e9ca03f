package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver"
	"cis490/receiver/local"
)

// publish publishes the originals of this receiver.
func (m *Mirror) publish() error {
	if m.lease == nil {
		lease, err := m.o.Lease()
		if held, other := errors.AsType[*receiver.HeldError](err); other {
			if m.o.Shared { // until it notices that the authority is here
				return nil
			}
			return fault.Fix(fmt.Errorf("%s has the authority, too", held.Holder),
				"sudo editor /etc/cis490/receiver.toml   # set elsewhere = true in [authority] on all receivers but one")
		}
		if err != nil {
			return err
		}
		m.lease, m.seen = lease, map[string]cut{}
	}
	if m.stored == nil {
		docs, err := m.o.Docs.All(prefix)
		if err != nil {
			return err
		}
		m.stored = map[string]bool{}
		for name := range docs {
			m.stored[name] = true
		}
	}
	names, err := m.originals()
	if err != nil {
		return err
	}
	all, used := []file{}, map[string]bool{indexDoc: true}
	for _, name := range names {
		path, err := m.path(name)
		if err != nil {
			return err
		}
		chunks, err := m.cut(path, func(d ident.Digest, part []byte) error {
			doc := prefix + string(d)
			if m.stored[doc] {
				return nil
			}
			m.stored[doc] = true
			return m.o.Docs.Save(doc, part)
		})
		if err != nil {
			m.stored = nil // perhaps a chunk is not stored
			return err
		}
		if chunks == nil {
			continue
		}
		for _, d := range chunks {
			used[prefix+string(d)] = true
		}
		all = append(all, file{name, chunks})
	}
	content, err := json.Marshal(all)
	if err != nil || bytes.Equal(content, m.index) {
		return err
	}
	if err := m.o.Docs.Save(indexDoc, content); err != nil {
		return err
	}
	m.index = content
	for name := range m.stored { // chunks of earlier contents
		if !used[name] {
			if err := m.o.Docs.Remove(name); err != nil {
				return err
			}
			delete(m.stored, name)
		}
	}
	return nil
}

// originals lists the files of this receiver; the one that makes others count is the last.
func (m *Mirror) originals() (names []string, err error) {
	for _, dir := range []string{"blobs", "signed"} {
		all, err := m.o.FS.ReadDir(filepath.Join(m.o.Releases, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, f := range all {
			if f.Type().IsRegular() && !strings.HasSuffix(f.Name(), disk.Partial) {
				names = append(names, releases+dir+"/"+f.Name())
			}
		}
	}
	if !m.o.Shared {
		names = append(names, authority+trustFile, authority+keysFile, authority+local.RosterFile)
	}
	return append(names, releases+manifest.OrdersFile), nil
}
