package export

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/receiver/catalogue"
)

// maxCells is how many values of an episode are kept in memory before they are written. A
// larger episode is read twice: first to see whether it is sound.
const maxCells = 200_000

// LeftOut is an episode that is not in the export.
type LeftOut struct {
	Host    ident.Host      `json:"host"`
	Episode ident.EpisodeID `json:"episode"`
	Why     string          `json:"why"`
}

// Counts are the numbers of episodes and rows in a split.
type Counts struct {
	Episodes int              `json:"episodes"`
	Classes  map[string]int   `json:"classes"`
	Profiles map[string]int   `json:"profiles"`
	Hosts    map[string]int   `json:"hosts"`
	Rows     map[string]int64 `json:"rows"` // by table
}

func newCounts() Counts {
	return Counts{Classes: map[string]int{}, Profiles: map[string]int{}, Hosts: map[string]int{}, Rows: map[string]int64{}}
}

func (c *Counts) add(o Counts) {
	c.Episodes += o.Episodes
	sum(c.Classes, o.Classes)
	sum(c.Profiles, o.Profiles)
	sum(c.Hosts, o.Hosts)
	sum(c.Rows, o.Rows)
}

func sum[N int | int64](into, from map[string]N) {
	for k, n := range from {
		into[k] += n
	}
}

// done is the result of a shard.
type done struct {
	Split   string    `json:"split"`
	Number  int       `json:"number"`
	Counts  Counts    `json:"counts"`
	Files   []File    `json:"files"`
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// shard writes the files of some episodes of one split.
type shard struct {
	Options
	*reader
	done
	all      []*table
	episodes *table
	open     map[*table]*openTable
	tar      *file // of a WebDataset
}

type openTable struct {
	rows
	file *file
}

// errLarge reports an episode that does not fit the buffer.
var errLarge = errors.New("the episode is large")

// buffer keeps the rows of an episode until it is known to be sound.
type buffer struct {
	cells map[*table][]cell
	n     int
}

func (b *buffer) row(t *table, cells []cell) error {
	if b.n += len(cells); b.n > maxCells {
		return errLarge
	}
	b.cells[t] = append(b.cells[t], cells...)
	return nil
}

// empty removes the rows, and keeps the memory for others.
func (b *buffer) empty() {
	for t, cells := range b.cells {
		b.cells[t] = cells[:0]
	}
	b.n = 0
}

// nowhere is a sink for episodes that are only read.
type nowhere struct{}

func (nowhere) row(*table, []cell) error { return nil }

// row writes rows of a sound episode.
func (s *shard) row(t *table, cells []cell) error {
	o := s.open[t]
	if o == nil {
		f, err := create(s.Out, File{Path: s.path(t.name), Table: t.name, Split: s.done.Split})
		if err != nil {
			return err
		}
		w, err := newRows(s.Format, f, t)
		if err != nil {
			return err
		}
		o = &openTable{w, f}
		s.open[t] = o
	}
	o.file.Rows += int64(len(cells) / len(t.columns))
	return o.write(cells)
}

func (s *shard) path(table string) string {
	split := s.done.Split
	if split == "" {
		split = "all"
	}
	return fmt.Sprintf("data/%s/%s-%05d%s", split, table, s.Number, s.Format.suffix())
}

// add exports an episode, or records the reason why it is left out. It returns errors of
// the disk and of the source.
func (s *shard) add(ctx context.Context, r catalogue.Row) error {
	why, err := s.export(ctx, r)
	if err != nil {
		return fmt.Errorf("export %s/%s: %w", r.Host, r.Episode, err)
	}
	if why != nil {
		s.LeftOut = append(s.LeftOut, LeftOut{r.Host, r.Episode, plain.Line(why.Error(), 300)})
		return nil
	}
	s.Counts.Episodes++
	s.Counts.Classes[r.Class]++
	s.Counts.Profiles[r.Profile]++
	s.Counts.Hosts[string(r.Host)]++
	for _, o := range s.open {
		if err := o.episode(); err != nil {
			return err
		}
	}
	return nil
}

func (s *shard) export(ctx context.Context, r catalogue.Row) (why, err error) {
	if r.State != catalogue.OK {
		return fmt.Errorf("%s: %s", r.State, r.Problem), nil
	}
	s.buffer.empty()
	var first sink = &s.buffer
	if s.Format == WebDataset {
		first = nowhere{}
	}
	e, why, err := s.pass(ctx, r, first)
	large := errors.Is(why, errLarge)
	if large {
		e, why, err = s.pass(ctx, r, nowhere{})
	}
	if why != nil || err != nil {
		return why, err
	}
	if s.Verify {
		if why, err = s.verify(ctx, r); why != nil || err != nil {
			return why, err
		}
	}
	if err := s.keepExperiment(e); err != nil {
		return nil, err
	}
	if s.Format == WebDataset {
		return nil, s.sample(ctx, r)
	}
	if err := s.row(s.episodes, e.cellsOf()); err != nil {
		return nil, err
	}
	if large {
		_, changed, err := s.pass(ctx, r, s)
		return nil, errors.Join(err, changed) // it was sound a moment ago
	}
	for _, t := range s.all {
		if cells := s.buffer.cells[t]; len(cells) > 0 {
			if err := s.row(t, cells); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// pass reads an episode once. why is an error in its content, err an error of the source.
func (s *shard) pass(ctx context.Context, r catalogue.Row, to sink) (e *reading, why, err error) {
	f, err := s.Source.Open(ctx, r)
	if errors.Is(err, ErrGone) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	noted := &sourceErrors{Reader: f}
	e, why = s.read(noted, r, to)
	if noted.err != nil || ctx.Err() != nil {
		why = nil
	}
	return e, why, errors.Join(noted.err, ctx.Err(), f.Close())
}

// sourceErrors records a source's errors, to distinguish them from those of the content.
type sourceErrors struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (s *sourceErrors) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// verify unpacks an episode, to run all checks of episode verify.
func (s *shard) verify(ctx context.Context, r catalogue.Row) (why, err error) {
	dir := path.Join(s.Out, stateDir, fmt.Sprintf("verify-%s-%d", s.done.Split, s.Number))
	if err := errors.Join(disk.RemoveAll(disk.OS{}, dir), disk.MkdirAll(disk.OS{}, dir, 0o700)); err != nil {
		return nil, err
	}
	f, err := s.Source.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	c := newChecked(f, r)
	if err = episode.UnpackWithin(ctx, disk.OS{}, c, r.Episode, s.Limits, dir); err == nil {
		err = c.rest()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if _, faults := episode.Verify(episode.Folder(disk.OS{}, dir)); len(faults) > 0 {
			why = errors.New(faults[0].String())
		}
	}
	return why, errors.Join(err, disk.RemoveAll(disk.OS{}, dir))
}

// keepExperiment keeps each experiment file once, by its digest.
func (s *shard) keepExperiment(e *reading) error {
	name := path.Join(s.Out, "experiments", string(e.meta.Experiment)+".toml")
	if digestOf(e.experiment) != e.meta.Experiment || disk.Exists(disk.OS{}, name) {
		return nil
	}
	if err := disk.MkdirAll(disk.OS{}, path.Dir(name), 0o755); err != nil {
		return err
	}
	s.keep.Lock()
	defer s.keep.Unlock()
	return disk.ReplaceBytes(disk.OS{}, name, 0o644, e.experiment)
}

// sample writes an episode as one sample of a WebDataset: the key, a dot, and the file's name.
func (s *shard) sample(ctx context.Context, r catalogue.Row) (err error) {
	if s.tar == nil {
		if s.tar, err = create(s.Out, File{Path: s.path(s.episodes.name), Table: s.episodes.name, Split: s.done.Split}); err != nil {
			return err
		}
	}
	f, err := s.Source.Open(ctx, r)
	if err != nil {
		return err
	}
	w, c := tar.NewWriter(s.tar), newChecked(f, r)
	err = s.inspect.Inspect(c, r.Episode, func(name string, size int64, content io.Reader) error {
		if strings.Contains(name, "/") {
			return nil // a sample has no folders
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s-%s.%s", r.Host, r.Episode, name), Size: size, Mode: 0o644, ModTime: time.Unix(0, 0),
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	})
	if err == nil {
		err = c.rest()
	}
	s.tar.Rows++
	return errors.Join(err, w.Flush(), f.Close())
}

// finish completes the files, in the order of the tables. They become durable at the same
// time, so that most of them need no write of their own to the disk's journal.
func (s *shard) finish() error {
	var durable errgroup.Group
	for _, t := range s.all {
		if o := s.open[t]; o != nil {
			if err := o.Close(); err != nil {
				return errors.Join(err, durable.Wait())
			}
			durable.Go(o.file.finish)
		}
	}
	if err := durable.Wait(); err != nil {
		return err
	}
	for _, t := range s.all {
		if o := s.open[t]; o != nil {
			s.Files = append(s.Files, o.file.File)
			s.Counts.Rows[t.name] += o.file.Rows
		}
	}
	if s.tar != nil {
		if err := errors.Join(tar.NewWriter(s.tar).Close(), s.tar.finish()); err != nil {
			return err
		}
		s.Files = append(s.Files, s.tar.File)
		s.Counts.Rows[s.tar.Table] += s.tar.Rows
	}
	return nil
}
