package store_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// state is how a start finds a stored upload.
type state struct {
	staged  bool // it has its staged name
	content string
}

// TestOpen_LastRows: only rows at the end that have their staged names are cut, from the first
// one whose tarball is missing or different. The others of them get a row again.
func TestOpen_LastRows(t *testing.T) {
	const right, other, missing = "right", "other", "missing"
	var states []state
	for _, staged := range []bool{false, true} {
		for _, content := range []string{right, other, missing} {
			states = append(states, state{staged, content})
		}
	}
	for i := range len(states) * len(states) * len(states) {
		found := []state{states[i%6], states[i/6%6], states[i/36]}
		t.Run(fmt.Sprint(found), func(t *testing.T) {
			const dir = "/data"
			d := faultdisk.New(dir)
			r, err := open(d, dir)
			must(t, err)
			for j, u := range uploads {
				must(t, r.put(u))
				must(t, leave(d, u, found[j].staged, found[j].content == other, found[j].content == missing))
			}
			last := len(found) // the first row that may be cut
			for last > 0 && found[last-1].staged {
				last--
			}
			for last < len(found) && found[last].content == right {
				last++
			}
			d.Reboot(faultdisk.All)
			r, err = open(d, dir)
			must(t, err)
			rows := map[receiver.Key]int{}
			for row, err := range r.x.Since(time.Time{}) {
				must(t, err)
				rows[row.Key()]++
				if j := int(row.Episode[25]-'1') + 2*int(row.Host[4]-'a'); row.Repaired != (j >= last) {
					t.Errorf("row %d is repaired: %t", j, row.Repaired)
				}
			}
			for j, u := range uploads {
				want := 1
				if j >= last && found[j].content != right {
					want = 0
				}
				if n := rows[receiver.Key{Host: u.Host, Episode: u.Episode}]; n != want {
					t.Errorf("upload %d has %d rows, want %d", j, n, want)
				}
			}
			left, err := d.ReadDir(dir + "/staged")
			if must(t, err); len(left) > 0 {
				t.Errorf("staged names stay: %v", left)
			}
		})
	}
}

// leave makes a stored upload look as after a crash.
func leave(d *faultdisk.Disk, u receiver.Upload, staged, other, missing bool) error {
	path := filepath.Join("/data/episodes", string(u.Host), string(u.Episode)+".tar.zst")
	if other {
		f, err := d.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		if _, err := f.Write(make([]byte, u.Size)); err != nil {
			return err
		}
	}
	if staged {
		name := strings.Join([]string{string(u.Host), string(u.Episode), string(u.Digest), string(commit), "00112233"}, ".")
		if err := d.Link(path, "/data/staged/"+name); err != nil {
			return err
		}
	}
	if missing {
		return d.Remove(path)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The row of an archived episode is not cut, although its upload has its staged name still.
func TestOpen_ArchivedRowStays(t *testing.T) {
	const dir = "/data"
	d := faultdisk.New(dir)
	r, err := open(d, dir)
	must(t, err)
	u := uploads[0]
	must(t, r.put(u))
	must(t, leave(d, u, true, false, true))
	must(t, r.x.Append([]receiver.Entry{{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Archived: true}}))
	d.Reboot(faultdisk.All)
	r, err = open(d, dir)
	must(t, err)
	if n := len(all(t, r.x)); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func all(t *testing.T, x receiver.Log[receiver.Entry]) (rows []receiver.Entry) {
	t.Helper()
	for row, err := range x.Since(time.Time{}) {
		must(t, err)
		rows = append(rows, row)
	}
	return rows
}

// hooked is a disk that calls a function before each flush.
type hooked struct {
	disk.OS
	flush func() error
}

func (d *hooked) OpenFlush(dir string) (disk.Flusher, error) {
	f, err := d.OS.OpenFlush(dir)
	return hookedFlusher{f, d}, err
}

type hookedFlusher struct {
	disk.Flusher
	d *hooked
}

func (f hookedFlusher) Flush() error {
	if err := f.d.flush(); err != nil {
		return err
	}
	return f.Flusher.Flush()
}

// TestReceive_RowIsReadWhenDurable: the row is written before the flush, and no reader sees it
// before the end of the flush, in this process or another one.
func TestReceive_RowIsReadWhenDurable(t *testing.T) {
	dir := t.TempDir()
	d := &hooked{flush: func() error { return nil }}
	r := openT(t, d, dir)
	must(t, r.put(uploads[0]))
	follow, followed := r.x.Follow(time.Time{}), 0
	read := func() string {
		must(t, follow.Read(func() { followed = 0 }, func(receiver.Entry) { followed++ }))
		before := 0
		for _, err := range r.x.Before(receiver.Query{}) {
			must(t, err)
			before++
		}
		other := local.Open(local.Options{FS: disk.OS{}, Dir: dir})
		last, _, err := other.Index.Last()
		must(t, err)
		own, _, err := r.x.Last()
		must(t, err)
		raw, err := os.ReadFile(filepath.Join(dir, "index.jsonl"))
		must(t, err)
		return fmt.Sprint(strings.Count(string(raw), "\n"), len(all(t, r.x)), before, followed, len(all(t, other.Index)), last.Equal(own))
	}
	flushes := 0
	d.flush = func() error {
		if flushes++; read() != "2 1 1 1 1 true" {
			t.Errorf("rows that the file has and readers see during the flush: %s", read())
		}
		return nil
	}
	must(t, r.put(uploads[1]))
	if got := read(); flushes != 1 || got != "2 2 2 2 2 true" {
		t.Errorf("after %d flushes: %s", flushes, got)
	}
	d.flush = func() error { return os.ErrInvalid }
	if r.put(uploads[2]) == nil {
		t.Error("acknowledged without a flush")
	}
	if got := read(); got != "2 2 2 2 2 true" {
		t.Errorf("after a failed flush: %s", got)
	}
}

// TestReceive_IndexElsewhere: an index on another file system gets its row after the flush.
func TestReceive_IndexElsewhere(t *testing.T) {
	dir := t.TempDir()
	d := &hooked{flush: func() error { return nil }}
	x, err := openIndex(d, dir, time.Now)
	must(t, err)
	defer func() { must(t, x.Close()) }()
	shared, ok := x.(store.Shared)
	if !ok {
		t.Fatal("an index in a file cannot share a flush")
	}
	o := store.Options{FS: d, DataDir: dir, Index: elsewhere{shared}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	s, err := store.Open(o)
	must(t, err)
	d.flush = func() error {
		if raw, err := os.ReadFile(filepath.Join(dir, "index.jsonl")); err != nil || len(raw) > 0 {
			t.Errorf("the row is written before the flush: %v %s", err, raw)
		}
		return nil
	}
	_, _, err = s.Receive(uploads[0], body(uploads[0]), admitted)
	if must(t, err); len(all(t, x)) != 1 {
		t.Error("no row")
	}
}

type elsewhere struct{ store.Shared }

func (elsewhere) Shares(string) (bool, error) { return false, nil }
