// Package export turns stored episodes into tables to train on: telemetry joined with its
// labels, counters beside their rates, split into training, validation and test sets.
//
// An export is a folder. Its list of episodes is written first and is its snapshot: the same
// list and options give the same bytes, whatever the number of cores. Files are written by
// shard and appear complete; an export that was cut off continues with the shards that are
// missing. An episode that is damaged, too large or not there is left out and listed.
//
//storage:files writes a folder elsewhere
package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"cis490/internal/dictionary"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver/catalogue"
)

// Source is where the episodes come from.
type Source interface {
	// Rows lists episodes, the oldest first.
	Rows(context.Context, catalogue.Query) iter.Seq2[catalogue.Row, error]
	// Open opens a tarball, or returns ErrGone.
	Open(context.Context, catalogue.Row) (io.ReadCloser, error)
}

// ErrGone reports a tarball that is not stored any more.
var ErrGone = errors.New("the tarball is not stored here (archived?)")

// Options describe an export. All but Source, Out, Format and Limits may be zero.
type Options struct {
	Source   Source `json:"-"`
	Query    catalogue.Query
	Snapshot string `json:"-"` // path of the list of another export, in place of Query
	Name     string
	Out      string `json:"-"` // the folder
	Format   Format
	Split    Split
	Limits   episode.Limits // of what an episode unpacks to
	Verify   bool           // run all checks of episode verify
	// Progress is called with the number of finished episodes and of all; nil: not called.
	Progress func(done, of int) `json:"-"`

	keep *sync.Mutex
}

// The folder's own files.
const (
	ManifestFile = "manifest.json"
	SnapshotFile = "snapshot.jsonl"
	LeftOutFile  = "left-out.jsonl"
	stateDir     = ".state"
	planFile     = stateDir + "/plan.json"
)

// Manifest describes an export. It depends on the episodes and options alone.
type Manifest struct {
	Schema     string            `json:"schema"`
	Name       string            `json:"name,omitempty"`
	Snapshot   string            `json:"snapshot"` // SHA-256 over host, episode and digest of each episode
	Query      string            `json:"query"`
	Format     Format            `json:"format"`
	Split      string            `json:"split,omitempty"`
	Dictionary int               `json:"dictionary_version"`
	Episodes   int               `json:"episodes"` // exported
	LeftOut    int               `json:"left_out"`
	Splits     map[string]Counts `json:"splits"`
	Files      []File            `json:"files"`
}

// Run makes an export, or continues it.
func Run(ctx context.Context, o Options) (m Manifest, err error) {
	o.keep = &sync.Mutex{}
	if b, err := disk.ReadFile(disk.OS{}, path.Join(o.Out, ManifestFile), 1<<30); err == nil {
		return m, fault.Fix(fmt.Errorf("%s is a complete export already: %s", o.Out, nameOf(b)), "choose another folder with --out")
	}
	if err := o.begin(ctx); err != nil {
		return m, err
	}
	l, err := o.scan(ctx)
	if err != nil {
		return m, err
	}
	if l.total == 0 {
		return m, fault.Fix(errors.New("no episodes match"), "cis490 episode list   # shows what there is; then remove "+o.Out)
	}
	if err := o.shards(ctx, l); err != nil {
		return m, err
	}
	if m, err = o.conclude(l); err != nil {
		return m, err
	}
	return m, disk.RemoveAll(disk.OS{}, path.Join(o.Out, stateDir))
}

func nameOf(manifest []byte) string {
	var m Manifest
	if json.Unmarshal(manifest, &m) != nil {
		return "its manifest cannot be read"
	}
	return fmt.Sprintf("snapshot %.12s, %d episodes", m.Snapshot, m.Episodes)
}

// begin makes the folder and writes the list of episodes, unless an earlier run did.
func (o Options) begin(ctx context.Context) error {
	want, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	at := path.Join(o.Out, planFile)
	b, err := disk.ReadFile(disk.OS{}, at, disk.Small)
	switch {
	case err == nil && string(b) != string(want):
		return fault.Fix(fmt.Errorf("%s has an unfinished export with other options", o.Out),
			"give the same options to continue it, or choose another folder with --out")
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if names, err := (disk.OS{}).ReadDir(o.Out); err == nil && len(names) > 0 {
			return fault.Fix(fmt.Errorf("%s is not empty", o.Out), "choose a new folder with --out")
		}
		if err := disk.MkdirAll(disk.OS{}, path.Join(o.Out, stateDir), 0o755); err != nil {
			return err
		}
		if err := disk.ReplaceBytes(disk.OS{}, at, 0o644, want); err != nil {
			return err
		}
	}
	if disk.Exists(disk.OS{}, path.Join(o.Out, SnapshotFile)) {
		return nil
	}
	return disk.Replace(disk.OS{}, path.Join(o.Out, SnapshotFile), 0o644, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 256<<10)
		enc := json.NewEncoder(out)
		from := o.Source.Rows(ctx, o.Query)
		if o.Snapshot != "" {
			from = readSnapshot(o.Snapshot)
		}
		for r, err := range from {
			if err == nil {
				err = errors.Join(ctx.Err(), enc.Encode(r))
			}
			if err != nil {
				return err
			}
		}
		return out.Flush()
	})
}

// readSnapshot reads a list of episodes.
func readSnapshot(at string) iter.Seq2[catalogue.Row, error] {
	return func(yield func(catalogue.Row, error) bool) {
		f, err := disk.OS{}.OpenFile(at, os.O_RDONLY, 0)
		if err != nil {
			yield(catalogue.Row{}, err)
			return
		}
		defer func() { _ = f.Close() }() // only read
		for dec := json.NewDecoder(bufio.NewReaderSize(f, 256<<10)); ; {
			var r catalogue.Row
			err := dec.Decode(&r)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("read %s: %w", at, err)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// scan reads the list once, for its id and for the split.
func (o Options) scan(ctx context.Context) (l *listed, err error) {
	l = &listed{hosts: map[ident.Host]int{}}
	id := sha256.New()
	for r, err := range readSnapshot(path.Join(o.Out, SnapshotFile)) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		l.total++
		l.hosts[r.Host]++
		_, _ = fmt.Fprintf(id, "%s %s %s\n", r.Host, r.Episode, r.Digest)
	}
	l.id = hex.EncodeToString(id.Sum(nil))
	return l, o.Split.prepare(l)
}

// shardSize returns how many episodes a shard has: enough for many cores, and not too many
// files.
func shardSize(total int) int { return min(max((total+31)/32, 16), 2000) }

// shards writes all shards, several at the same time.
func (o Options) shards(ctx context.Context, l *listed) error {
	g, ctx := errgroup.WithContext(ctx)
	readers := make(chan *reader, min(runtime.GOMAXPROCS(0), 4))
	g.SetLimit(cap(readers))
	for range cap(readers) {
		r, err := newReader(o.Limits)
		if err != nil {
			return err
		}
		defer r.inspect.Close()
		readers <- r
	}
	progress := &progress{report: o.Progress, of: l.total}
	waiting, numbers := map[string][]catalogue.Row{}, map[string]int{}
	begin := func(split string) {
		rows, n := waiting[split], numbers[split]
		waiting[split], numbers[split] = nil, n+1
		g.Go(func() error {
			r := <-readers
			defer func() { readers <- r }()
			return o.shard(ctx, r, split, n, rows, progress)
		})
	}
	at := 0
	for r, err := range readSnapshot(path.Join(o.Out, SnapshotFile)) {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, g.Wait())
		}
		split := o.Split.of(l, r, at)
		at++
		if waiting[split] = append(waiting[split], r); len(waiting[split]) == shardSize(l.total) {
			begin(split)
		}
	}
	for _, split := range o.Split.names() {
		if len(waiting[split]) > 0 {
			begin(split)
		}
	}
	return g.Wait()
}

// progress counts episodes.
type progress struct {
	mu     sync.Mutex
	report func(done, of int)
	n, of  int
}

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n += n; p.report != nil {
		p.report(p.n, p.of)
	}
}

func (o Options) shardState(split string, n int) string {
	return path.Join(o.Out, stateDir, fmt.Sprintf("shard-%s-%05d.json", split, n))
}

// shard writes a shard that is not complete yet.
func (o Options) shard(ctx context.Context, reader *reader, split string, n int, rows []catalogue.Row, p *progress) error {
	state := o.shardState(split, n)
	if disk.Exists(disk.OS{}, state) {
		p.add(len(rows))
		return nil
	}
	s := &shard{
		Options: o, reader: reader, open: map[*table]*openTable{},
		done: done{Split: split, Number: n, Counts: newCounts(), Files: []File{}},
	}
	s.all = s.formats.tables()
	s.episodes = s.all[0]
	for _, r := range rows {
		if err := s.add(ctx, r); err != nil {
			return err
		}
		p.add(1)
	}
	if err := s.finish(); err != nil {
		return err
	}
	b, err := json.Marshal(s.done)
	if err != nil {
		return err
	}
	return disk.ReplaceBytes(disk.OS{}, state, 0o644, b)
}

// conclude writes the files that describe the export, the manifest last.
func (o Options) conclude(l *listed) (Manifest, error) {
	query := o.Query.String()
	if o.Snapshot != "" {
		query = "the episodes of a snapshot"
	}
	m := Manifest{
		Schema: "cis490.export/1", Name: o.Name, Snapshot: l.id, Query: query, Format: o.Format, Split: o.Split.String(),
		Dictionary: dictionary.Version, Splits: map[string]Counts{}, Files: []File{},
	}
	err := disk.Replace(disk.OS{}, path.Join(o.Out, LeftOutFile), 0o644, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, split := range o.Split.names() {
			all := newCounts()
			for n := 0; ; n++ {
				b, err := disk.ReadFile(disk.OS{}, o.shardState(split, n), 1<<30)
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				var d done
				if err == nil {
					err = json.Unmarshal(b, &d)
				}
				if err != nil {
					return err
				}
				all.add(d.Counts)
				m.Files = append(m.Files, d.Files...)
				m.LeftOut += len(d.LeftOut)
				for _, x := range d.LeftOut {
					if err := enc.Encode(x); err != nil {
						return err
					}
				}
			}
			m.Episodes += all.Episodes
			m.Splits[split] = all
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	return m, o.describe(m)
}
