package contacts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// A host's earlier health reports are kept in a second file; the newest is the last.
const (
	historyEnding = ".history.jsonl"
	maxHistory    = 8
	maxSnapshot   = 2 * wire.MaxSnapshot // bytes of the stored document, which has all fields
)

// Snapshot is <host>.json: a host's health report.
type Snapshot struct {
	Host       ident.Host   `json:"host"`
	ReceivedAt time.Time    `json:"received_at"`
	Snapshot   check.Report `json:"snapshot"`
}

// Snapshots stores the hosts' health reports. Only serve writes them.
type Snapshots struct {
	docs receiver.Docs
	mu   sync.Mutex // serializes Put

	goodMu sync.Mutex
	good   map[ident.Host]string // version of the document that was last found valid
}

// NewSnapshots returns the health reports among the documents.
func NewSnapshots(docs receiver.Docs) *Snapshots {
	return &Snapshots{docs: docs, good: map[ident.Host]string{}}
}

func reportName(h ident.Host) string { return receiver.HealthReports + string(h) + ".json" }

// Put stores a host's health report durably and reports whether it is the first.
func (s *Snapshots) Put(h ident.Host, at time.Time, r check.Report) (first bool, err error) {
	row, err := wire.Encode(Snapshot{h, at.UTC(), r})
	if err != nil {
		return false, fmt.Errorf("store health report: %w", err)
	}
	row = append(row, '\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.docs.Load(reportName(h), maxSnapshot)
	first = errors.Is(err, fs.ErrNotExist)
	if err == nil {
		if err := s.appendHistory(h, before); err != nil {
			return false, err
		}
	}
	if err := s.docs.Save(reportName(h), row); err != nil {
		return false, fmt.Errorf("store health report: %w", err)
	}
	if d, err := s.docs.Stat(reportName(h)); err == nil {
		s.markGood(h, d)
	}
	return first, nil
}

// appendHistory appends a report to the host's history. A history that cannot be read stays
// as it is.
func (s *Snapshots) appendHistory(h ident.Host, row []byte) error {
	name := receiver.HealthReports + string(h) + historyEnding
	b, err := s.docs.Load(name, (maxHistory+1)*maxSnapshot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	rows := latest(bytes.SplitAfter(b, []byte("\n")), maxHistory) // the last is empty
	if err := s.docs.Save(name, append(bytes.Join(rows, nil), row...)); err != nil {
		return fmt.Errorf("store health report: %w", err)
	}
	return nil
}

// ErrSnapshot reports a document that is not a health report.
var ErrSnapshot = errors.New("file is not a snapshot")

// AllSnapshots describes the latest health reports of all hosts that have one.
func AllSnapshots(docs receiver.Docs) (map[ident.Host]receiver.Doc, error) {
	all, err := docs.All(receiver.HealthReports)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	hosts := map[ident.Host]receiver.Doc{}
	for name, doc := range all {
		name, ok := strings.CutSuffix(strings.TrimPrefix(name, receiver.HealthReports), ".json")
		if h, err := ident.ParseHost(name); ok && err == nil {
			hosts[h] = doc
		}
	}
	return hosts, nil
}

// ReadSnapshot returns a host's latest health report, fs.ErrNotExist without one, or
// ErrSnapshot if the document is something else.
func ReadSnapshot(docs receiver.Docs, h ident.Host) (Snapshot, error) {
	var s Snapshot
	b, err := docs.Load(reportName(h), maxSnapshot)
	if err != nil {
		return s, err
	}
	if err := wire.Decode(b, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %s: %w", ErrSnapshot, reportName(h), err)
	}
	return s, nil
}
