package store_test

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/store"
)

func openT(t *testing.T, fsys disk.FS, dir string) *rx {
	t.Helper()
	r, err := open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close(t) })
	return r
}

func (r *rx) close(t *testing.T) {
	t.Helper()
	if err := r.x.Close(); err != nil {
		t.Error(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func rowsOf(t *testing.T, dir string) []receiver.Entry {
	t.Helper()
	var rows []receiver.Entry
	for r, err := range rowsIn(disk.OS{}, dir) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

func TestReceive_RefusalLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	u := uploads[0]
	broken := errors.New("the line is cut")
	wrong := u
	wrong.Digest = uploads[1].Digest
	longer := u
	longer.Size++
	for _, c := range []struct {
		name  string
		u     receiver.Upload
		body  io.Reader
		admit func() error
		want  error
	}{
		{"wrong digest", wrong, body(u), admitted, receiver.ErrDigest},
		{"short", longer, body(u), admitted, io.ErrUnexpectedEOF},
		{"cut", u, io.MultiReader(strings.NewReader("lab"), iotest.ErrReader(broken)), admitted, broken},
		{"not admitted any more", u, body(u), func() error { return broken }, broken},
	} {
		_, _, err := r.s.Receive(c.u, c.body, c.admit)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if left := append(names(t, filepath.Join(dir, "staged")), names(t, filepath.Join(dir, "episodes/lab-a"))...); len(left) > 0 {
			t.Errorf("%s: left %q", c.name, left)
		}
	}
	if rows := rowsOf(t, dir); len(rows) > 0 {
		t.Errorf("rows: %+v", rows)
	}
}

func TestReceive_RaceOfTheSameEpisode(t *testing.T) {
	for name, differ := range map[string]bool{"same content": false, "other content": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := openT(t, disk.OS{}, dir)
			var created, again, conflict atomic.Int64
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					u, b := uploads[0], body(uploads[0])
					if differ && i%2 == 1 {
						u.Digest, b = upload("lab-b", u.Episode).Digest, body(upload("lab-b", u.Episode))
					}
					_, isNew, err := r.s.Receive(u, b, admitted)
					switch {
					case errors.Is(err, receiver.ErrConflict):
						conflict.Add(1)
					case err != nil:
						t.Error(err)
					case isNew:
						created.Add(1)
					default:
						again.Add(1)
					}
				})
			}
			wg.Wait()
			wantConflicts := int64(0)
			if differ {
				wantConflicts = 8
			}
			if created.Load() != 1 || conflict.Load() != wantConflicts || created.Load()+again.Load()+conflict.Load() != 16 {
				t.Errorf("created %d, again %d, conflict %d", created.Load(), again.Load(), conflict.Load())
			}
			if rows := rowsOf(t, dir); len(rows) != 1 {
				t.Errorf("%d rows", len(rows))
			}
			if left := names(t, filepath.Join(dir, "staged")); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// failing is an index whose disk is full until it is mended.
type failing struct {
	store.Index
	broken atomic.Bool
}

func (f *failing) Append(r []receiver.Entry) error {
	if f.broken.Load() {
		return errors.New("no space for rows")
	}
	return f.Index.Append(r)
}

func TestRow_MissingIsRepairedByRetryOrRestart(t *testing.T) {
	for _, restart := range []bool{false, true} {
		dir := t.TempDir()
		x, err := openIndex(disk.OS{}, dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		f := &failing{Index: x}
		f.broken.Store(true)
		o := store.Options{FS: disk.OS{}, DataDir: dir, Index: f, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		s, err := store.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		u := uploads[0]
		if _, _, err := s.Receive(u, body(u), admitted); err == nil {
			t.Fatal("acknowledged without a row")
		}
		if _, _, err := s.Lookup(u.Host, u.Episode); err == nil {
			t.Error("found although its row is still missing")
		}
		if err := s.Settle(); err == nil {
			t.Error("settled although a row is still missing")
		}
		f.broken.Store(false)
		if restart {
			if s, err = store.Open(o); err != nil {
				t.Fatal(err)
			}
		}
		have, found, err := s.Lookup(u.Host, u.Episode)
		if err != nil || !found || have.Digest != u.Digest || have.Commit != commit {
			t.Errorf("restart %t: found %+v, %t, %v", restart, have, found, err)
		}
		rows := rowsOf(t, dir)
		if len(rows) != 1 || !rows[0].Repaired || rows[0].Digest != u.Digest || rows[0].Size != u.Size || rows[0].Commit != commit {
			t.Errorf("restart %t: rows %+v", restart, rows)
		}
		if left := names(t, filepath.Join(dir, "staged")); len(left) > 0 {
			t.Errorf("left %q", left)
		}
		if err := errors.Join(s.Settle(), x.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestOpen_SweepsHalfUploadsAndLeavesOthersFiles(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	if err := r.put(uploads[0]); err != nil {
		t.Fatal(err)
	}
	r.close(t)
	half := "lab-a.01ARZ3NDEKTSV4RRFFQ69G5FA2." + string(uploads[1].Digest) + "." + string(commit) + ".00112233"
	for _, n := range []string{half, "probe.partial", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, "staged", n), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A crash between the row and the removal of the staged name: the row is there.
	done := strings.Replace(half, "5FA2", "5FA1", 1)
	if err := os.Link(
		filepath.Join(dir, "episodes/lab-a/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst"), filepath.Join(dir, "staged", done),
	); err != nil {
		t.Fatal(err)
	}
	openT(t, disk.OS{}, dir)
	if left := names(t, filepath.Join(dir, "staged")); len(left) != 1 || left[0] != "notes.txt" {
		t.Errorf("left %q", left)
	}
	if rows := rowsOf(t, dir); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestOpen_KeepsItsID(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	id := r.s.ID()
	r.close(t)
	if again := openT(t, disk.OS{}, dir); id == "" || again.s.ID() != id {
		t.Errorf("id was %q, is %q", id, again.s.ID())
	}
}

// plain is a file system without attributes, such as one that a copy went
// through.
type plain struct{ disk.FS }

func TestLookup_HashesWhereNoDigestIsKept(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, plain{disk.OS{}}, dir)
	u := uploads[0]
	if err := r.put(u); err != nil {
		t.Fatal(err)
	}
	if have, found, err := r.s.Lookup(u.Host, u.Episode); err != nil || !found || have.Digest != u.Digest {
		t.Errorf("%+v, %t, %v", have, found, err)
	}
}

func TestLookup_DirectoryInPlaceOfAFile(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, disk.OS{}, dir)
	u := uploads[0]
	path := filepath.Join(dir, "episodes", string(u.Host), string(u.Episode)+".tar.zst")
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.put(u); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.put(u); err != nil {
		t.Errorf("after it was moved away: %v", err)
	}
}

// narrow is a disk with little room.
type narrow struct {
	disk.OS
	free int64
}

func (n narrow) Free(string) (int64, error) { return n.free, nil }

func TestReceive_KeepsTheReserve(t *testing.T) {
	dir := t.TempDir()
	x, err := openIndex(disk.OS{}, dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	u := uploads[0]
	s, err := store.Open(
		store.Options{
			FS:      narrow{free: 1000 + 2*u.Size - 2},
			DataDir: dir,
			Index:   x,
			Reserve: 1000,
			Now:     time.Now,
			Log:     slog.New(slog.DiscardHandler),
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	// While one upload is in progress its room is taken, so there is none for two.
	_, _, err = s.Receive(u, body(u), func() error {
		_, _, err := s.Receive(uploads[1], body(uploads[1]), admitted)
		return err
	})
	if err != nil {
		t.Errorf("the first's bytes are written, so the second fits: %v", err)
	}
	pr, pw := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, _, err := s.Receive(uploads[2], pr, admitted)
		first <- err
	}()
	if _, err := pw.Write([]byte("l")); err != nil { // it is in progress now
		t.Fatal(err)
	}
	if _, _, err := s.Receive(upload("lab-c", u.Episode), body(upload("lab-c", u.Episode)), admitted); !errors.Is(err, receiver.ErrFull) {
		t.Errorf("beside one in progress: %v", err)
	}
	_ = pw.CloseWithError(io.ErrClosedPipe)
	if err := <-first; !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if err := errors.Join(s.Room(2*u.Size-2), x.Close()); err != nil {
		t.Errorf("room was not given back: %v", err)
	}
	if left := names(t, filepath.Join(dir, "staged")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
