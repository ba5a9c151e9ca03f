package contacts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// SnapshotsDir is the folder of snapshots in the receiver's data folder.
const SnapshotsDir = "host-health"

// A host's last snapshots are kept beside the latest, the latest last.
const (
	historyEnding = ".history.jsonl"
	maxHistory    = 8
	maxSnapshot   = 2 * wire.MaxSnapshot // as it is written: fields that were not sent take room too
)

// Snapshot is <host>.json: one doctor run of the host.
type Snapshot struct {
	Host       ident.Host   `json:"host"`
	ReceivedAt time.Time    `json:"received_at"`
	Snapshot   check.Report `json:"snapshot"`
}

// Snapshots is the folder of snapshots; serve writes it.
type Snapshots struct {
	fs  disk.FS
	dir string
	mu  sync.Mutex // a host that sends twice at a time gets one after the other

	seeing sync.Mutex
	good   map[ident.Host]stamp // files that hold what they should
}

// OpenSnapshots opens the folder, making it.
func OpenSnapshots(fsys disk.FS, dataDir string) (*Snapshots, error) {
	s := &Snapshots{fs: fsys, dir: filepath.Join(dataDir, SnapshotsDir), good: map[ident.Host]stamp{}}
	if err := disk.MkdirAll(fsys, s.dir, 0o750); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return s, nil
}

func (s *Snapshots) path(h ident.Host) string { return filepath.Join(s.dir, string(h)+".json") }

// Put stores a host's snapshot durably and reports whether it is the first.
func (s *Snapshots) Put(h ident.Host, at time.Time, r check.Report) (first bool, err error) {
	row, err := wire.Encode(Snapshot{h, at.UTC(), r})
	if err != nil {
		return false, fmt.Errorf("keep snapshot: %w", err)
	}
	row = append(row, '\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path(h)
	before, err := disk.ReadFile(s.fs, path, maxSnapshot)
	first = errors.Is(err, fs.ErrNotExist)
	if err == nil {
		if err := s.remember(h, before); err != nil {
			return false, err
		}
	}
	if err := disk.ReplaceBytes(s.fs, path, 0o640, row); err != nil {
		return false, fmt.Errorf("keep snapshot: %w", err)
	}
	if fi, err := s.fs.Lstat(path); err == nil {
		s.markGood(h, stamp{fi.Size(), fi.ModTime()})
	}
	return first, nil
}

// remember moves the snapshot that is about to be replaced into the history.
func (s *Snapshots) remember(h ident.Host, row []byte) error {
	path := filepath.Join(s.dir, string(h)+historyEnding)
	b, err := disk.ReadFile(s.fs, path, (maxHistory+1)*maxSnapshot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b = nil // too large or unreadable: a history is not worth a refusal
	}
	rows := latest(bytes.SplitAfter(b, []byte("\n")), maxHistory) // the last is empty
	if err := disk.ReplaceBytes(s.fs, path, 0o640, append(bytes.Join(rows, nil), row...)); err != nil {
		return fmt.Errorf("keep snapshot: %w", err)
	}
	return nil
}

// ErrSnapshot reports that a snapshot's file holds something else.
var ErrSnapshot = errors.New("file is not a snapshot")

// ReadSnapshot returns a host's latest snapshot. It returns fs.ErrNotExist if there is
// none, and ErrSnapshot if the file holds something else.
func ReadSnapshot(fsys disk.FS, dataDir string, h ident.Host) (Snapshot, error) {
	var s Snapshot
	path := filepath.Join(dataDir, SnapshotsDir, string(h)+".json")
	b, err := disk.ReadFile(fsys, path, maxSnapshot)
	if err != nil {
		return s, err
	}
	if err := wire.Decode(b, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %s: %w", ErrSnapshot, path, err)
	}
	return s, nil
}

// SnapshotHosts returns the hosts that a snapshot is kept of, ordered.
func SnapshotHosts(fsys disk.FS, dataDir string) ([]ident.Host, error) {
	return snapshotHosts(fsys, filepath.Join(dataDir, SnapshotsDir))
}

func snapshotHosts(fsys disk.FS, dir string) ([]ident.Host, error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var hosts []ident.Host
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if h, err := ident.ParseHost(name); ok && err == nil {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}
