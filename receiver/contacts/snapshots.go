package contacts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// SnapshotsDir is the folder of snapshots in the receiver's data folder.
const SnapshotsDir = "host-health"

// A host's last snapshots are kept beside the latest, the latest last.
const (
	historyEnding = ".history.jsonl"
	maxHistory    = 8
	maxSnapshot   = 64<<10 + 1<<10
)

// Snapshot is <host>.json: one doctor run as the host sent it.
type Snapshot struct {
	Host       ident.Host      `json:"host"`
	ReceivedAt time.Time       `json:"received_at"`
	Snapshot   json.RawMessage `json:"snapshot"`
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

// Put keeps a host's snapshot durably and tells whether it is the first. body
// is a JSON object.
func (s *Snapshots) Put(h ident.Host, at time.Time, body []byte) (first bool, err error) {
	var row bytes.Buffer
	to := json.NewEncoder(&row)
	to.SetEscapeHTML(false) // six bytes for one: it would be larger than what is read
	if err := to.Encode(Snapshot{h, at.UTC(), body}); err != nil {
		return false, fmt.Errorf("keep snapshot: %w", err)
	}
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
	if err := disk.ReplaceBytes(s.fs, path, 0o640, row.Bytes()); err != nil {
		return false, fmt.Errorf("keep snapshot: %w", err)
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

// ReadSnapshot returns a host's latest snapshot; fs.ErrNotExist if there is none.
func ReadSnapshot(fsys disk.FS, dataDir string, h ident.Host) (Snapshot, error) {
	var s Snapshot
	path := filepath.Join(dataDir, SnapshotsDir, string(h)+".json")
	b, err := disk.ReadFile(fsys, path, maxSnapshot)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
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
