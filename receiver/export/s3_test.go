package export_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/s3"
)

// stored uploads the episodes of a source to a backend, catalogues them and returns them as
// the receiver's own source.
func stored(t *testing.T, s *source, back receiver.Backend, commit ident.Commit) export.Local {
	t.Helper()
	store, err := back.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for _, r := range s.rows {
		u := receiver.Upload{Host: r.Host, Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: commit}
		if _, created, err := store.Receive(u, bytes.NewReader(s.tarballs[r.Episode]), func() error { return nil }); err != nil || !created {
			t.Fatal(created, err)
		}
	}
	c, err := catalogue.Open(filepath.Join(t.TempDir(), "catalogue.db"), store.ID(), episode.FormatLimits())
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		_, err = c.CatchUp(t.Context(), catalogue.Source{Index: back.Index, Episodes: back.Episodes, Log: slog.New(slog.DiscardHandler)})
	}
	if err != nil {
		t.Fatal(err)
	}
	find := func(_ context.Context, q catalogue.Query) (catalogue.Page, error) { return c.Find(q) }
	return export.Local{Find: find, Episodes: back.Episodes}
}

// data returns the tables of an export, without the list of episodes, which has the times of
// their upload.
func data(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := tree(t, dir)
	delete(all, "/"+export.SnapshotFile)
	return all
}

// From an object store, an export is what it is from a disk. It stops while the store is away
// and continues afterwards, and leaves out objects that are damaged or gone.
func TestRun_FromAnObjectStore(t *testing.T) {
	server := s3test.New(t)
	s, commit := fleet(t), ident.Commit(strings.Repeat("a", 40))
	log := slog.New(slog.DiscardHandler)
	folder := func() local.Options {
		return local.Options{FS: disk.OS{}, Dir: filepath.Join(t.TempDir(), "data"), Now: time.Now, Log: log}
	}
	o := export.Options{
		Source: stored(t, s, local.Open(folder()), commit), Out: t.TempDir() + "/disk", Format: export.Parquet,
		Split: export.Split{By: "host"}, Limits: episode.FormatLimits(),
	}
	run(t, o)
	want := data(t, o.Out)

	base := folder()
	bucket, err := objects.Open(s3test.Options(server.Addr))
	if err != nil {
		t.Fatal(err)
	}
	first, err := local.Open(base).Serve() // gives the store its id
	if err == nil {
		err = s3.Mark(t.Context(), bucket, first.ID(), time.Now())
	}
	if err == nil {
		err = first.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	back := s3.Open(s3.Options{Base: local.Open(base), Bucket: bucket, FS: disk.OS{}, Dir: base.Dir, Uploads: 8, Now: time.Now, Log: log})
	o.Source, o.Out = stored(t, s, back, commit), t.TempDir()+"/s3"
	server.Kill()
	if _, err := export.Run(t.Context(), o); err == nil {
		t.Error("the store is away, and the export does not fail")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	run(t, o)
	if diff := cmp.Diff(want, data(t, o.Out)); diff != "" {
		t.Errorf("disk (-) and object store (+) differ:\n%s", diff)
	}

	object := func(r catalogue.Row) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(server.Dir, s3test.Bucket, "episodes", string(r.Host), string(r.Episode)+".*"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	damaged, err := os.OpenFile(object(s.rows[3]), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = damaged.WriteAt([]byte("damaged"), 100)
	if err := errors.Join(err, damaged.Close(), os.Remove(object(s.rows[7]))); err != nil {
		t.Fatal(err)
	}
	o.Out = t.TempDir() + "/damaged"
	if m := run(t, o); m.Episodes != 58 || m.LeftOut != 2 {
		t.Errorf("%d episodes, %d left out", m.Episodes, m.LeftOut)
	}
}
