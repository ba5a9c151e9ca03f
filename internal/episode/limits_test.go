package episode_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
)

// TestPack_Limits: the limits of an episode are checked before a byte is read.
func TestPack_Limits(t *testing.T) {
	sparse := func(size int64) func(*testing.T, string) error {
		return func(_ *testing.T, dir string) error {
			name := filepath.Join(dir, "x")
			return errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, size))
		}
	}
	file := func(name string) error { return os.WriteFile(name, nil, 0o644) }
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string) error
		want string // "": it is packed
	}{
		"8 TiB, sparse": {sparse(8 << 40), "larger than the limit"},
		"over by 1":     {sparse(episode.MaxBytes), "larger than the limit"}, // meta.json is there too
		"below folders": {func(_ *testing.T, dir string) error {
			return os.MkdirAll(filepath.Join(dir, strings.Repeat("x/", 8)), 0o755)
		}, ""},
		"too deep": {func(_ *testing.T, dir string) error {
			return os.MkdirAll(filepath.Join(dir, strings.Repeat("x/", 9)), 0o755)
		}, "more than 8 folders"},
		"a hard link": {func(_ *testing.T, dir string) error {
			return os.Link(filepath.Join(dir, "meta.json"), filepath.Join(dir, "x"))
		}, "other names"},
		"a link from beyond": {func(t *testing.T, dir string) error { return linkFrom(t, filepath.Join(dir, "x")) }, "other names"},
		"bytes, not UTF-8": {
			func(_ *testing.T, dir string) error { return file(filepath.Join(dir, "x\xff")) },
			"not a path within the episode",
		},
		"an escape": {func(_ *testing.T, dir string) error { return file(filepath.Join(dir, "x\x1b[2J")) }, "control characters"},
		"another's file": {func(t *testing.T, dir string) error {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			return errors.Join(file(filepath.Join(dir, "x")), os.Chown(filepath.Join(dir, "x"), 12345, -1))
		}, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"meta.json": least})
			if err := c.make(t, dir); err != nil {
				t.Fatal(err)
			}
			b, _, err := pack(t, dir)
			if c.want == "" {
				if err == nil {
					err = episode.Inspect(bytes.NewReader(b), id, drain)
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
			if u, ok := errors.AsType[*episode.Unpackable](err); !ok || !strings.Contains(u.Why, c.want) || len(b) > 0 {
				t.Errorf("got %v and %d bytes, want an Unpackable that says %q", err, len(b), c.want)
			}
		})
	}
}

// TestPack_ManyNames counts folders too, as they cost as much to list.
func TestPack_ManyNames(t *testing.T) {
	for _, c := range []struct {
		files, folders int
		want           bool
	}{{9_999, 0, true}, {10_000, 0, false}, {0, 10_000, false}, {5_000, 5_000, false}} {
		f := faultdisk.New("/e")
		err := disk.ReplaceBytes(f, "/e/meta.json", 0o644, []byte(least))
		for i := range c.files {
			err = errors.Join(err, disk.WriteSync(f, fmt.Sprintf("/e/f%d", i), 0o644, func(io.Writer) error { return nil }))
		}
		for i := range c.folders {
			err = errors.Join(err, f.Mkdir(fmt.Sprintf("/e/d%d", i), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := episode.NewPacker()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, err = p.Pack(t.Context(), &b, episode.Source{FS: f, Dir: "/e", ID: id})
		if _, ok := errors.AsType[*episode.Unpackable](err); ok == c.want || b.Len() > 0 != c.want {
			t.Errorf("%d files and %d folders: %v, %d bytes", c.files, c.folders, err, b.Len())
		}
		if c.want {
			if err := episode.Inspect(&b, id, drain); err != nil {
				t.Error(err)
			}
		}
	}
}

func drain(_ string, _ int64, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// linkFrom gives a file elsewhere a second name.
func linkFrom(t *testing.T, name string) error {
	from := filepath.Join(t.TempDir(), "secret")
	return errors.Join(os.WriteFile(from, []byte("secret"), 0o644), os.Link(from, name))
}

// TestPack_TakesWhatInspectTakes: packing and reading accept the same trees.
func TestPack_TakesWhatInspectTakes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 90))
	parts := []string{
		"a", "b.jsonl", "ü", "x y", "é\u0301", "-", ".hidden", "done.marker", "a\\b", "…", "\xff", "tab\t",
		"del\x7f", "\u0085", strings.Repeat("n", 255), strings.Repeat("ü", 120),
	}
	taken := 0
	for range 400 {
		files := map[string]string{"meta.json": least}
		for range 1 + rnd.IntN(3) {
			name := parts[rnd.IntN(len(parts))]
			for range rnd.IntN(11) * rnd.IntN(2) {
				name = path.Join(parts[rnd.IntN(10)]+"d", name)
			}
			files[name] = strings.Repeat("x", rnd.IntN(1000))
		}
		f := faultdisk.New("/e")
		var raw bytes.Buffer
		z, err := zstd.NewWriter(&raw)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		for name, content := range files {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: string(id) + "/" + name, Size: int64(len(content)), Mode: 0o644}
			err := errors.Join(disk.MkdirAll(f, path.Dir("/e/"+name), 0o755), disk.ReplaceBytes(f, "/e/"+name, 0o644,
				[]byte(content)), w.WriteHeader(h))
			if _, err2 := io.WriteString(w, content); errors.Join(err, err2) != nil {
				t.Fatal(err, err2)
			}
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		p, err := episode.NewPacker()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, packing := p.Pack(t.Context(), &b, episode.Source{FS: f, Dir: "/e", ID: id})
		reading := episode.Inspect(&raw, id, drain)
		if _, ok := errors.AsType[*episode.Unpackable](packing); (packing == nil) != (reading == nil) || packing != nil && !ok {
			t.Fatalf("packing says %v, reading says %v", packing, reading)
		}
		if packing == nil {
			taken++
			if err := episode.Inspect(&b, id, drain); err != nil {
				t.Fatalf("packed, but not readable: %v", err)
			}
		}
	}
	if taken < 50 || taken > 350 {
		t.Errorf("%d of 400 trees were taken: that says little", taken)
	}
}

// TestPack_Changes: hidden changes are detected too: content changed with the time set
// back, a second name, another file in the place.
func TestPack_Changes(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"time set back": func(file string) error {
			old, err := os.Stat(file)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(file, []byte("X"+strings.Repeat("y", 1<<20-1)), 0o644), os.Chtimes(file, time.Time{}, old.ModTime()))
		},
		"second name": func(file string) error {
			return os.Link(file, filepath.Join(filepath.Dir(filepath.Dir(file)), "again"))
		},
		"replaced": func(file string) error {
			return errors.Join(os.WriteFile(file+".new", make([]byte, 1<<20), 0o644), os.Rename(file+".new", file))
		},
		"a link": func(file string) error {
			return errors.Join(os.Rename(file, file+".old"), os.Symlink("/etc/passwd", file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "e")
			write(t, dir, map[string]string{"a.jsonl": strings.Repeat("x", 1<<20), "b.jsonl": strings.Repeat("x", 1<<20), "meta.json": least})
			p, err := episode.NewPacker()
			if err != nil {
				t.Fatal(err)
			}
			done := false
			_, err = p.Pack(t.Context(), io.Discard, episode.Source{FS: disk.OS{}, Dir: dir, ID: id, Moved: func(int) {
				if done { // while a is read, b is changed
					return
				}
				done = true
				if err := change(filepath.Join(dir, "b.jsonl")); err != nil {
					t.Error(err)
				}
			}})
			if u, ok := errors.AsType[*episode.Unpackable](err); !ok || u.File != "b.jsonl" {
				t.Errorf("got %v, want an Unpackable that names b.jsonl", err)
			}
		})
	}
}

// TestPack_Larger: an episode over the caller's limit is not quarantined.
func TestPack_Larger(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"meta.json": least, "sub/a": strings.Repeat("x", 1000)})
	src := episode.Source{FS: disk.OS{}, Dir: dir, ID: id, Most: 1000}
	p, err := episode.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Pack(t.Context(), io.Discard, src)
	if l, ok := errors.AsType[*episode.Larger](err); !ok || l.Most != 1000 {
		t.Errorf("got %v, want Larger than 1000", err)
	}
	if n := episode.Bytes(src); n != int64(1000+len(least)) {
		t.Errorf("%d bytes, want %d: what lies in folders counts too", n, 1000+len(least))
	}
	if err := errors.Join(os.Symlink("/", filepath.Join(dir, "root")), os.Truncate(filepath.Join(dir, "sub/a"), 8<<40)); err != nil {
		t.Fatal(err)
	}
	if n := episode.Bytes(src); n != episode.MaxBytes {
		t.Errorf("%d bytes, want the limit and no overflow", n)
	}
}
