package episode_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
)

const (
	id    ident.EpisodeID = "01J0000000000000000000000A"
	least                 = `{"episode":"` + string(id) + `"}`
)

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func pack(t testing.TB, dir string) ([]byte, episode.Packed, error) {
	t.Helper()
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	packed, err := p.Pack(t.Context(), &b, episode.Source{FS: disk.OS{}, Dir: dir, ID: id})
	return b.Bytes(), packed, err
}

func TestPack_DependsOnContentAlone(t *testing.T) {
	files := map[string]string{
		"meta.json": least, "b.jsonl": "b\n",
		"a.jsonl": string(bytes.Repeat([]byte("row of samples\n"), 1<<15)), "sub/x": "x", "done.marker": "",
	}
	one, two := t.TempDir(), t.TempDir()
	write(t, one, files)
	write(t, two, files)
	write(t, two, map[string]string{episode.ReasonFile: "set aside once"})
	old := time.Unix(1e9, 0)
	if err := errors.Join(os.Chtimes(filepath.Join(two, "b.jsonl"), old, old), os.Chmod(filepath.Join(two, "meta.json"), 0o600)); err != nil {
		t.Fatal(err)
	}
	a, pa, err := pack(t, one)
	if err != nil {
		t.Fatal(err)
	}
	b, pb, err := pack(t, two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) || !cmp.Equal(pa, pb) {
		t.Errorf("two tarballs of the same content: %+v and %+v", pa, pb)
	}
	z, err := zstd.NewReader(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain := sha256.New()
	if _, err := io.Copy(plain, z); err != nil || string(pa.Content) != hex.EncodeToString(plain.Sum(nil)) {
		t.Errorf("content %s is not the digest of what decompresses, %v", pa.Content, err)
	}
	if pa.Size != int64(len(a)) {
		t.Errorf("size %d, want %d", pa.Size, len(a))
	}
	out := t.TempDir()
	if err := episode.Unpack(t.Context(), disk.OS{}, bytes.NewReader(a), id, out); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = episode.Inspect(bytes.NewReader(a), id, func(name string, _ int64, r io.Reader) error {
		content, err := io.ReadAll(r)
		got[name] = string(content)
		unpacked, err2 := os.ReadFile(filepath.Join(out, name))
		if !bytes.Equal(unpacked, content) {
			t.Errorf("%s: unpacked otherwise than inspected", name)
		}
		return errors.Join(err, err2)
	})
	if err != nil || !maps.Equal(got, files) {
		t.Errorf("unpacked (-want +got):\n%s%v", cmp.Diff(files, got), err)
	}
}

func TestPack_WhatItRefuses(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root every file can be read: that case is left out")
	}
	for name, spoil := range map[string]func(dir string) error{
		"symlink":  func(dir string) error { return os.Symlink("meta.json", filepath.Join(dir, "x")) },
		"pipe":     func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "x"), 0o644) },
		"dir link": func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "x")) },
		"unreadable": func(dir string) error {
			if os.Geteuid() == 0 {
				return os.Symlink("nowhere", filepath.Join(dir, "x"))
			}
			return os.WriteFile(filepath.Join(dir, "x"), nil, 0)
		},
		"too deep": func(dir string) error { return os.MkdirAll(filepath.Join(dir, "x/1/2/3/4/5/6/7/8/9"), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"meta.json": least})
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, _, err := pack(t, dir)
			u, ok := errors.AsType[*episode.Unpackable](err)
			if !ok || u.Why == "" || u.File[0] != 'x' {
				t.Errorf("got %v, want an Unpackable that names x", err)
			}
		})
	}
}

func TestPack_FileThatGrows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.jsonl")
	write(t, dir, map[string]string{"a.jsonl": string(make([]byte, 1<<20))})
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	grown := false
	_, err = p.Pack(t.Context(), io.Discard, episode.Source{FS: disk.OS{}, Dir: dir, ID: id, Moved: func(int) {
		if !grown {
			grown = true
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			_, err = f.WriteString("more")
			if err := errors.Join(err, f.Close()); err != nil {
				t.Error(err)
			}
		}
	}})
	if _, ok := errors.AsType[*episode.Unpackable](err); !ok {
		t.Errorf("got %v, want Unpackable", err)
	}
}

func TestPack_Cancelled(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "content"})
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Pack(ctx, io.Discard, episode.Source{FS: disk.OS{}, Dir: dir, ID: id}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

// entry makes a tarball with one entry.
func entry(t testing.TB, h tar.Header, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	h.Size, h.Mode = int64(len(content)), 0o644
	err = w.WriteHeader(&h)
	_, err2 := io.WriteString(w, content)
	if err := errors.Join(err, err2, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack_NeverEscapes(t *testing.T) {
	for _, h := range []tar.Header{
		{Name: "../x"},
		{Name: "/etc/x"},
		{Name: string(id) + "/../x"},
		{Name: string(id) + "/a/../../x"},
		{Name: "other/x"},
		{Name: string(id) + "/"},
		{Name: string(id) + "/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: string(id) + "/x", Typeflag: tar.TypeChar},
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := episode.Unpack(t.Context(), disk.OS{}, bytes.NewReader(entry(t, h, "")), id, dir); err == nil {
			t.Errorf("%q was unpacked", h.Name)
		}
		for _, d := range []string{parent, dir} {
			entries, err := os.ReadDir(d)
			if err != nil || (d == parent && len(entries) != 1) || (d == dir && len(entries) != 0) {
				t.Errorf("%q left %v, %v", h.Name, entries, err)
			}
		}
	}
}

func FuzzInspect(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, map[string]string{"meta.json": least, "telemetry-proc.jsonl": "1\n2\n"})
	whole, _, err := pack(f, dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(entry(f, tar.Header{Name: string(id) + "/../x"}, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := episode.Inspect(bytes.NewReader(b), id, func(name string, size int64, r io.Reader) error {
			if !filepath.IsLocal(name) {
				t.Errorf("name %q leaves the episode", name)
			}
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != size {
				t.Errorf("%q has %d bytes, not %d", name, n, size)
			}
			return err
		})
		_ = err // any error will do
	})
}

// full is a disk with little room.
type full struct{ disk.OS }

func (full) Free(string) (int64, error) { return 1 << 20, nil }

func TestUnpack_LeavesRoom(t *testing.T) {
	b := entry(t, tar.Header{Name: string(id) + "/x"}, "abc")
	if err := episode.Unpack(t.Context(), full{}, bytes.NewReader(b), id, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "do not fit") {
		t.Errorf("unpacked onto a disk with little room: %v", err)
	}
	if err := episode.Unpack(t.Context(), disk.OS{}, bytes.NewReader(b), id, t.TempDir()); err != nil {
		t.Errorf("with room: %v", err)
	}
}
