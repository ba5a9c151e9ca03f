package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver"
)

// fetch replaces the copies that differ from the originals.
func (m *Mirror) fetch() error {
	if m.copies != nil {
		if err := m.copies.Follow(); err != nil {
			return err
		}
	}
	doc, err := m.o.Docs.Stat(indexDoc)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Fix(errors.New("no receiver has published the authority's files yet"),
			"sudo systemctl start cis490-receiver   # on the receiver that has the authority")
	}
	if err != nil || doc.Version == m.version {
		return err
	}
	content, err := m.o.Docs.Load(indexDoc, maxIndex)
	if err != nil {
		return err
	}
	var all []file
	if err := json.Unmarshal(content, &all); err != nil {
		return fmt.Errorf("decode the index of mirrored files: %w", err)
	}
	for _, f := range all {
		if strings.HasPrefix(f.Name, authority) && (m.o.Shared || m.copies != nil && m.copies.Begun()) {
			continue // not of serve's documents
		}
		if err := m.copy(f); err != nil {
			return fmt.Errorf("copy %.80s: %w", f.Name, err)
		}
	}
	m.version = doc.Version
	return nil
}

// copy replaces a copy if it differs.
func (m *Mirror) copy(f file) error {
	path, err := m.path(f.Name)
	if err != nil {
		return err
	}
	here := map[ident.Digest][]byte{}
	have, err := m.cut(path, func(d ident.Digest, part []byte) error { here[d] = part; return nil })
	if err != nil {
		return err
	}
	if have != nil && slices.Equal(have, f.Chunks) {
		return nil
	}
	var whole []byte
	for _, d := range f.Chunks {
		part, ok := here[d]
		if !ok {
			if part, err = m.o.Docs.Load(prefix+string(d), chunk); err != nil {
				return err
			}
		}
		if digestOf(part) != d {
			return fmt.Errorf("a chunk is not %s", d)
		}
		if whole = append(whole, part...); len(whole) > most {
			return fmt.Errorf("larger than %d bytes", most)
		}
	}
	if err := disk.MkdirAll(m.o.FS, filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return disk.ReplaceBytes(m.o.FS, path, 0o644, whole)
}

// copyRollout copies the progress of the releases for the programs that read it from the folder.
func (m *Mirror) copyRollout() error {
	doc, err := m.o.Docs.Stat(receiver.RolloutDoc)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || doc.Version == m.rollout {
		return err
	}
	content, err := m.o.Docs.Load(receiver.RolloutDoc, most)
	if err == nil {
		err = disk.MkdirAll(m.o.FS, m.o.Releases, 0o755)
	}
	if err == nil {
		err = disk.ReplaceBytes(m.o.FS, manifest.RolloutPath(m.o.Releases), 0o644, content)
	}
	if err == nil {
		m.rollout = doc.Version
	}
	return err
}
